#include "gatewright/models/families/convert_files.h"

#include <fmt/format.h>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/text/gguf_vocabulary.h"

namespace gatewright {
namespace {

constexpr const char* kFileKey = "gatewright.file.";  // + a file's name: small files beside config.json
constexpr const char* kTokenizerKey = "tokenizer.huggingface.json";
constexpr const char* kTemplateKey = "tokenizer.chat_template";
constexpr const char* kFilesBeside[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "generation_config.json"};

void put_text(GgufMetadata& keys, const std::string& key, const std::filesystem::path& file) {
  if (std::filesystem::exists(file)) keys.set(key, read_file(file, kLargestText));
}

/// What the files beside config.json say, as they stand.
void put_texts(GgufMetadata& keys, const std::filesystem::path& folder, const OrderedJson& config) {
  keys.set(kConfigKey, config.dump());
  put_text(keys, kTokenizerKey, folder / "tokenizer.json");
  put_text(keys, kTemplateKey, folder / "chat_template.jinja");
  for (const char* name : kFilesBeside) put_text(keys, std::string(kFileKey) + name, folder / name);
  const auto settings = keys.text_or(std::string(kFileKey) + "tokenizer_config.json", "");
  if (settings.empty() || keys.contains(kTemplateKey)) return;
  const Json json = parse_json(settings, "tokenizer_config.json");
  if (json.is_object() && json.contains("chat_template") && json["chat_template"].is_string())
    keys.set(kTemplateKey, json["chat_template"].get<std::string>());
}

/// The vocabulary of the folder's tokenizer, with a name for every row of the embedding.
void put_vocabulary(GgufMetadata& keys, const std::filesystem::path& folder, int64_t vocab_size) {
  GgufVocabulary vocabulary = gguf_vocabulary(Tokenizer::load(folder).definition());
  if (vocabulary.types.empty()) vocabulary.types.assign(vocabulary.tokens.size(), 1);
  constexpr int64_t kUnused = 5;
  for (int64_t id = std::ssize(vocabulary.tokens); id < vocab_size; ++id) {
    vocabulary.tokens.push_back(fmt::format("[PAD{}]", id));
    vocabulary.types.push_back(kUnused);
    if (!vocabulary.scores.empty()) vocabulary.scores.push_back(-1000);
  }
  if (vocabulary.chat_template.empty()) vocabulary.chat_template = keys.text_or(kTemplateKey, "");
  write_gguf_vocabulary(vocabulary, keys);
}

}  // namespace

std::string add_files(GgufMetadata& keys, const std::filesystem::path& folder, const OrderedJson& config,
                      int64_t vocab_size) {
  put_texts(keys, folder, config);
  std::string note;
  const bool has_tokenizer = std::filesystem::exists(folder / "tokenizer.json") ||
                             std::filesystem::exists(folder / "tokenizer.model");
  try {
    if (has_tokenizer) put_vocabulary(keys, folder, vocab_size);
  } catch (const Error& error) {
    note = fmt::format("the file has no vocabulary that other programs read: {}", error.what());
  }
  if (!keys.contains("tokenizer.ggml.model")) keys.set("tokenizer.ggml.model", "no_vocab");
  return note;
}

OrderedJson kept_config(const GgufMetadata& keys) {
  const std::string kept = keys.text_or(kConfigKey, "");
  return kept.empty() ? OrderedJson::object() : OrderedJson::parse(parse_json(kept, kConfigKey).dump());
}

std::optional<Tokenizer> tokenizer_in(const GgufMetadata& keys) {
  if (!has_vocabulary(keys)) return std::nullopt;
  return Tokenizer(definition_of(read_gguf_vocabulary(keys), keys.what()), keys.what());
}

SmallFiles kept_files(const GgufMetadata& keys, const std::optional<Tokenizer>& tokenizer) {
  SmallFiles files;
  const auto put = [&](const std::string& key, const std::string& name) {
    if (const std::string text = keys.text_or(key, ""); !text.empty()) files[name] = text;
  };
  if (tokenizer && !keys.contains(kTokenizerKey)) {
    files["tokenizer.json"] = tokenizer->to_json();
    files["tokenizer_config.json"] = tokenizer->config_json();
  }
  put(kTokenizerKey, "tokenizer.json");
  put(kTemplateKey, "chat_template.jinja");
  for (const char* name : kFilesBeside) put(std::string(kFileKey) + name, name);
  return files;
}

SmallFiles files_in(const std::filesystem::path& folder) {
  SmallFiles files;
  for (const std::string name : {"tokenizer.json", "tokenizer.model", "chat_template.jinja", kFilesBeside[0],
                                 kFilesBeside[1], kFilesBeside[2]}) {
    if (std::filesystem::exists(folder / name)) files[name] = read_file(folder / name, kLargestText);
  }
  return files;
}

}  // namespace gatewright

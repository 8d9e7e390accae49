#include "gatewright/text/tokenizer_file.h"

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "gatewright/text/sentencepiece_model.h"
#include "gatewright/text/tokenizer_json.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargest = uint64_t{1} << 26;  // published files have up to 35 MB

TokenizerDefinition read_folder(const std::filesystem::path& folder) {
  const std::filesystem::path json = folder / "tokenizer.json", model = folder / "tokenizer.model";
  const bool has_json = std::filesystem::exists(json);
  require(has_json || std::filesystem::exists(model),
          "the folder {} has no tokenizer: neither tokenizer.json nor tokenizer.model", folder.string());
  TokenizerDefinition definition = read_tokenizer_file(has_json ? json : model);
  const std::filesystem::path config = folder / "tokenizer_config.json";
  if (std::filesystem::exists(config))
    read_tokenizer_config(read_file(config, kLargest), config.string(), definition);
  const std::filesystem::path chat = folder / "chat_template.jinja";
  if (std::filesystem::exists(chat)) definition.chat_template = read_file(chat, kLargest);
  return definition;
}

bool begins_as_json(std::string_view bytes) {
  const size_t at = bytes.find_first_not_of(" \t\r\n");
  return bytes.empty() || at == std::string_view::npos || bytes[at] == '{' || bytes[at] == '[';
}

}  // namespace

TokenizerDefinition read_tokenizer_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return read_folder(path);
  if (path != "-" && std::filesystem::is_regular_file(path) && is_gguf(path)) {
    const GgufFile file(path);
    return definition_of(read_gguf_vocabulary(file.metadata()), path.string());
  }
  const std::string bytes = read_file(path, kLargest);
  if (begins_as_json(bytes)) return read_tokenizer_json(bytes, path.string());
  return read_sentencepiece_model(bytes, path.string());
}

}  // namespace gatewright

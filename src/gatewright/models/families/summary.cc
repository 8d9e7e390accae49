#include "gatewright/models/families/summary.h"

#include <algorithm>
#include <optional>

#include "gatewright/base/checked.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/formats/tensor_names.h"
#include "gatewright/models/families/gguf_config.h"
#include "gatewright/models/families/hf_config.h"
#include "gatewright/models/families/model_file.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargestDescription = 64 << 20;

void add_tensors(ModelSummary& s, const std::map<std::string, TensorView>& tensors) {
  for (const auto& [name, view] : tensors) {
    const int64_t values = checked_product(view.shape, name), bytes = std::ssize(view.data);
    s.tensors.push_back({.name = name, .shape = view.shape, .type = view.dtype, .bytes = bytes});
    s.parameters = checked_add(s.parameters, values, "the number of parameters");
    TypeSummary& type = s.types[std::string(data_type_name(view.dtype))];
    ++type.tensors;
    type.values += values;
    type.bytes += bytes;
  }
}

bool is_expert(const TensorSummary& t) {
  return t.name.find("_exps.") != std::string::npos || number_after(t.name, ".experts.").has_value();
}

/// What names and shapes tell, of files whose architecture is not known.
void guess_from_tensors(ModelSummary& s) {
  int64_t of_experts = 0, layers = 0, experts = 0;
  for (const TensorSummary& t : s.tensors) {
    layers = std::max({layers, number_after(t.name, "blk.").value_or(-1) + 1,
                       number_after(t.name, ".layers.").value_or(-1) + 1});
    if (!is_expert(t)) continue;
    of_experts += checked_product(t.shape, t.name);
    const bool stacked = t.name.find("_exps.") != std::string::npos && t.shape.size() == 3;
    experts = std::max(experts, stacked ? t.shape[0] : number_after(t.name, ".experts.").value_or(-1) + 1);
  }
  if (s.layers == 0) s.layers = layers;
  if (s.experts == 0) s.experts = experts;
  s.active_parameters = s.parameters;
  if (s.experts > 0 && s.experts_per_token > 0 && s.experts_per_token <= s.experts)
    s.active_parameters -= of_experts / s.experts * (s.experts - s.experts_per_token);
}

std::string gate_of(const RoutedSpec& r) {
  std::string text = r.sigmoid          ? "sigmoid of each score"
                     : r.softmax_chosen ? "top-k of the logits"
                                        : "softmax over all";
  text += fmt::format(", top-{}", r.top_k);
  if (r.num_groups > 1)
    text += fmt::format(" in {} of {} groups by their {}", r.groups_used, r.num_groups,
                        r.group_by_best ? "best expert" : "two best experts");
  if (r.selection_bias) text += ", a bias on the choice";
  text += r.softmax_chosen ? ", softmax over the chosen"
          : r.renormalise  ? ", weights divided by their sum"
                           : ", weights as they are";
  if (r.scale != 1) text += fmt::format(", times {}", r.scale);
  if (r.shared_width > 0)
    text += fmt::format("; shared experts of width {}{}", r.shared_width,
                        r.shared_gate ? " with a gate of their own" : "");
  return text;
}

void describe(ModelSummary& s, const Architecture& a) {
  s.layers = a.num_layers();
  s.active_parameters = s.parameters;
  if (!a.name.empty()) s.name = a.name;
  for (const ArchitectureLayer& layer : a.layers) {
    if (!layer.routed) continue;
    const RoutedSpec& r = *layer.routed;
    ++s.routed_layers;
    s.experts = std::max(s.experts, r.num_experts);
    s.experts_per_token = std::max(s.experts_per_token, r.top_k);
    const int64_t expert = 3 * a.hidden_size * r.width + (r.biases ? 2 * r.width + a.hidden_size : 0);
    s.active_parameters -= (r.num_experts - r.top_k) * expert;
  }
  if (const RoutedSpec* routed = a.first_routed()) s.gate = gate_of(*routed);
}

/// The architecture in full when our decoder computes it, else why not. `source`: what a ModelFile is made
/// of.
template <typename Source>
void look_into(ModelSummary& s, const Source& source) {
  try {
    const ModelFile file(source);
    describe(s, file.architecture());
    s.runs = true;
    if (file.architecture().family == "deepseek_v2" && file.format() == FileFormat::kGguf &&
        file.architecture().first_routed()->num_groups == 1)
      s.notes.emplace_back(
          "the file says nothing of groups of experts, which the published DeepSeek-V2 has: --selector "
          "group_limited_top_k gives its choice");
  } catch (const Error& error) {
    s.why_not = error.what();
    guess_from_tensors(s);
  }
}

std::string tokenizer_of(const GgufMetadata& keys) {
  const std::string model = keys.text_or("tokenizer.ggml.model", "");
  if (model.empty() || model == "no_vocab") return "";
  const GgufValue* tokens = keys.find("tokenizer.ggml.tokens");
  const std::string pre = keys.text_or("tokenizer.ggml.pre", "");
  return fmt::format("{}{}, {} tokens", model, pre.empty() ? "" : ", " + pre, tokens ? tokens->size() : 0);
}

int64_t count_or_zero(const GgufMetadata& keys, const std::string& key) {
  const GgufValue* value = keys.find(key);
  const auto numbers = value ? value->integers() : std::nullopt;
  return numbers && !numbers->empty() ? *std::ranges::max_element(*numbers) : 0;
}

ModelSummary of_gguf(const std::filesystem::path& path) {
  const auto opened = std::make_shared<const GgufFile>(path);
  const GgufFile& file = *opened;
  const GgufMetadata& keys = file.metadata();
  ModelSummary s{.architecture = keys.text_or("general.architecture", "unknown"),
                 .name = keys.text_or("general.name", ""),
                 .format = "GGUF",
                 .file_bytes = file.file_bytes(),
                 .tokenizer = tokenizer_of(keys),
                 .chat_template = keys.contains("tokenizer.chat_template")};
  add_tensors(s, file.tensors());
  s.layers = count_or_zero(keys, s.architecture + ".block_count");
  s.experts = count_or_zero(keys, s.architecture + ".expert_count");
  s.experts_per_token = count_or_zero(keys, s.architecture + ".expert_used_count");
  look_into(s, opened);
  return s;
}

/// What config.json says of models that are not of a published family, our own among them.
void read_config(ModelSummary& s, const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  if (!std::filesystem::exists(path)) return;
  const Json json = parse_json(read_file(path, kLargestDescription), path.string());
  const auto number = [&](const char* key) -> int64_t {
    const auto it = json.find(key);
    return it != json.end() && it->is_number_integer() ? it->get<int64_t>() : 0;
  };
  require(json.is_object(), "{}: an object was expected", path.string());
  if (const auto it = json.find("model_type"); it != json.end() && it->is_string())
    s.architecture = it->get<std::string>();
  s.layers = number("num_hidden_layers");
  s.experts_per_token = number("num_experts_per_tok");
}

ModelSummary of_folder(const std::filesystem::path& path) {
  const SafetensorsFolder folder(path);
  ModelSummary s{.architecture = "unknown", .format = "safetensors", .file_bytes = folder.file_bytes()};
  read_config(s, path);
  add_tensors(s, folder.tensors());
  s.chat_template = std::filesystem::exists(path / "chat_template.jinja");
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (s.tokenizer.empty() && std::filesystem::exists(path / name)) s.tokenizer = name;
  }
  if (std::filesystem::exists(path / "config.json") && is_published_model(path)) {
    look_into(s, path);
  } else {
    guess_from_tensors(s);
    s.runs = s.architecture == "gatewright" || s.architecture == "olmoe";
    if (!s.runs) s.why_not = "there is no config.json of a known architecture";
  }
  return s;
}

ModelSummary of_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  ModelSummary s{
      .architecture = "unknown", .format = "safetensors", .file_bytes = std::filesystem::file_size(path)};
  add_tensors(s, file.tensors());
  guess_from_tensors(s);
  s.why_not = "a safetensors file alone has no config.json; name its folder";
  return s;
}

}  // namespace

ModelSummary summarize_model(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) fail("there is no {}", path.string());
  if (std::filesystem::is_directory(path)) return of_folder(path);
  return path.extension() == ".safetensors" ? of_safetensors(path) : of_gguf(path);
}

}  // namespace gatewright

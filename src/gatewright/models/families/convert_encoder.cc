#include "gatewright/models/families/convert_encoder.h"

#include <fmt/ranges.h>

#include <utility>

#include "gatewright/base/checked.h"
#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json_keys.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/models/families/convert_output.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestEncoderConfig = 1 << 20;
using Tensors = std::map<std::string, TensorView>;

struct Sizes {
  int64_t layers = 0, hidden = 0, heads = 0, inner = 0, positions = 0, token_types = 0, vocab = 0;
  double epsilon = 1e-12;
};

struct EncoderTensor {
  std::string name;  // Hugging Face's
  std::vector<int64_t> shape;
};

std::vector<EncoderTensor> tensors_of(const Sizes& s) {
  const int64_t h = s.hidden, f = s.inner;
  std::vector<EncoderTensor> list = {{"embeddings.word_embeddings.weight", {s.vocab, h}},
                                     {"embeddings.position_embeddings.weight", {s.positions, h}},
                                     {"embeddings.token_type_embeddings.weight", {s.token_types, h}}};
  const auto pair = [&](const std::string& name, std::vector<int64_t> shape) {
    list.push_back({name + ".bias", {shape[0]}});
    list.push_back({name + ".weight", std::move(shape)});
  };
  pair("embeddings.LayerNorm", {h});
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = fmt::format("encoder.layer.{}.", i);
    for (const char* name : {"query", "key", "value"}) pair(layer + "attention.self." + name, {h, h});
    pair(layer + "attention.output.dense", {h, h});
    pair(layer + "attention.output.LayerNorm", {h});
    pair(layer + "intermediate.dense", {f, h});
    pair(layer + "output.dense", {h, f});
    pair(layer + "output.LayerNorm", {h});
  }
  return list;
}

Json config_in(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  Json config = parse_json(read_file(file, kLargestEncoderConfig), file.string());
  require(config.is_object(), "{}: an object was expected", file.string());
  return config;
}

Sizes sizes_in(const Json& config, const std::string& what) {
  Sizes s{.layers = read_size(config, "num_hidden_layers", what, 1024),
          .hidden = read_size(config, "hidden_size", what),
          .heads = read_size(config, "num_attention_heads", what),
          .inner = read_size(config, "intermediate_size", what),
          .positions = read_size(config, "max_position_embeddings", what),
          .token_types = config.contains("type_vocab_size") ? read_size(config, "type_vocab_size", what) : 2,
          .vocab = read_size(config, "vocab_size", what)};
  s.epsilon = read_key_or<double>(config, "layer_norm_eps", s.epsilon, what);
  return s;
}

int64_t rows_of(const GgufFile& file, const std::string& name) {
  const TensorView& tensor = file.tensor(name);
  require(tensor.shape.size() == 2, "{}: {} must have two axes", file.metadata().what(), name);
  return tensor.shape[0];
}

Sizes sizes_in(const GgufFile& file) {
  const GgufMetadata& keys = file.metadata();
  const auto size = [&](const std::string& name, int64_t most = int64_t{1} << 24) {
    const int64_t value = keys.integer("bert." + name);
    require(value >= 1 && value <= most, "{}: bert.{} must be in [1, {}], got {}", keys.what(), name, most,
            value);
    return value;
  };
  return {.layers = size("block_count", 1024),
          .hidden = size("embedding_length"),
          .heads = size("attention.head_count"),
          .inner = size("feed_forward_length"),
          .positions = size("context_length"),
          .token_types = rows_of(file, "token_types.weight"),
          .vocab = rows_of(file, "token_embd.weight"),
          // The shortest decimal that rounds to the file's float32.
          .epsilon = std::stod(
              fmt::format("{}", static_cast<float>(keys.number("bert.attention.layer_norm_epsilon"))))};
}

/// The tensor under its name or, where a head lies beside the encoder, with "bert." before it.
const TensorView& find(const Tensors& tensors, const std::string& name, const EncoderTensor& wanted,
                       const std::string& what) {
  auto it = tensors.find(name);
  if (it == tensors.end()) it = tensors.find("bert." + name);
  require(it != tensors.end(), "{}: the tensor {} is missing", what, name);
  require(it->second.shape == wanted.shape, "{}: {} has shape [{}], [{}] is expected", what, name,
          fmt::join(it->second.shape, ", "), fmt::join(wanted.shape, ", "));
  return it->second;
}

TensorPlan plan_as(const TensorView& view, const std::string& name, DataType type) {
  TensorPlan plan{.name = name, .dtype = type, .shape = view.shape};
  if (view.dtype == type) {
    plan.data = view.data;
    return plan;
  }
  plan.produce = [&view, type](const ByteSink& sink) {
    int64_t count = 1;
    for (const int64_t n : view.shape) count = checked_mul(count, n, view.name);
    std::vector<float> values(static_cast<size_t>(count));
    unpack(view.dtype, view.data, values);
    if (type == DataType::kF32) return sink(std::as_bytes(std::span<const float>(values)));
    std::vector<std::byte> bytes(values.size() * static_cast<size_t>(block_bytes(type)));
    pack(type, values, view.shape.back(), {}, bytes);
    sink(bytes);
  };
  return plan;
}

bool is_f32_in_gguf(const EncoderTensor& tensor) {
  return tensor.shape.size() == 1 || tensor.name.find("position") != std::string::npos ||
         tensor.name.find("token_type") != std::string::npos;
}

void set_keys(GgufMetadata& keys, const Sizes& s, DataType type) {
  keys.set("general.architecture", "bert");
  keys.set("general.quantization_version", uint32_t{2});
  keys.set("general.file_type", uint32_t{type == DataType::kF16 ? 1U : type == DataType::kBF16 ? 32U : 0U});
  for (const auto& [name, value] : {std::pair("block_count", s.layers),
                                    {"context_length", s.positions},
                                    {"embedding_length", s.hidden},
                                    {"feed_forward_length", s.inner},
                                    {"attention.head_count", s.heads},
                                    {"vocab_size", s.vocab},
                                    {"pooling_type", int64_t{1}}})
    keys.set(std::string("bert.") + name, checked_cast<uint32_t>(value, name));
  keys.set("bert.attention.layer_norm_epsilon", static_cast<float>(s.epsilon));
  keys.set("bert.attention.causal", false);
  keys.set("tokenizer.ggml.token_type_count", checked_cast<uint32_t>(s.token_types, "type_vocab_size"));
}

ConvertReport to_gguf(const fs::path& folder, const fs::path& out, const ConvertOptions& options) {
  const Json config = config_in(folder);
  const Sizes sizes = sizes_in(config, (folder / "config.json").string());
  const SafetensorsFolder weights(folder);
  std::vector<TensorPlan> plans;
  DataType type = DataType::kF32;  // of the matrices
  for (const EncoderTensor& tensor : tensors_of(sizes)) {
    const TensorView& view = find(weights.tensors(), tensor.name, tensor, folder.string());
    if (!is_f32_in_gguf(tensor)) type = options.type.value_or(view.dtype);
    plans.push_back(
        plan_as(view, encoder_gguf_name(tensor.name), is_f32_in_gguf(tensor) ? DataType::kF32 : type));
  }
  ConvertReport report;
  GgufMetadata keys;
  set_keys(keys, sizes, type);
  const std::string note = add_files(keys, folder, OrderedJson(config), sizes.vocab);
  if (!note.empty()) report.notes.push_back(note);
  if (weights.tensors().size() > plans.size())
    report.notes.push_back(fmt::format("{} tensors that sentence embeddings do not use are left out",
                                       weights.tensors().size() - plans.size()));
  finish_gguf(out, keys, std::move(plans), options, report);
  return report;
}

OrderedJson config_of(const Sizes& s, const GgufMetadata& keys) {
  OrderedJson config = kept_config(keys);
  if (config.empty())
    config = {
        {"architectures", {"BertModel"}}, {"hidden_act", "gelu"}, {"position_embedding_type", "absolute"}};
  config["model_type"] = "bert";
  config["num_hidden_layers"] = s.layers;
  config["hidden_size"] = s.hidden;
  config["num_attention_heads"] = s.heads;
  config["intermediate_size"] = s.inner;
  config["max_position_embeddings"] = s.positions;
  config["type_vocab_size"] = s.token_types;
  config["vocab_size"] = s.vocab;
  config["layer_norm_eps"] = s.epsilon;
  return config;
}

ConvertReport to_folder(const GgufFile& file, const fs::path& folder, const ConvertOptions& options) {
  const Sizes sizes = sizes_in(file);
  ConvertReport report;
  std::vector<TensorPlan> plans;
  for (const EncoderTensor& tensor : tensors_of(sizes)) {
    const TensorView& view =
        find(file.tensors(), encoder_gguf_name(tensor.name), tensor, file.metadata().what());
    const DataType same = is_packed(view.dtype) ? DataType::kF32 : view.dtype;
    const DataType type = tensor.shape.size() > 1 ? options.type.value_or(same) : same;
    plans.push_back(plan_as(view, tensor.name, type));
  }
  finish_folder(folder, std::move(plans),
                {.beside = kept_files(file.metadata(), tokenizer_in(file.metadata())),
                 .config = config_of(sizes, file.metadata())},
                options, report);
  return report;
}

void check_directions(bool from_gguf, const fs::path& out) {
  require(from_gguf != (out.extension() == ".gguf"),
          "an encoder is converted from a folder to NAME.gguf, or from a GGUF file to a folder");
}

}  // namespace

std::string encoder_gguf_name(std::string name) {
  constexpr std::pair<std::string_view, std::string_view> kParts[] = {
      {"embeddings.word_embeddings", "token_embd"},
      {"embeddings.position_embeddings", "position_embd"},
      {"embeddings.token_type_embeddings", "token_types"},
      {"embeddings.LayerNorm", "token_embd_norm"},
      {"encoder.layer.", "blk."},
      {"attention.self.query", "attn_q"},
      {"attention.self.key", "attn_k"},
      {"attention.self.value", "attn_v"},
      {"attention.output.dense", "attn_output"},
      {"attention.output.LayerNorm", "attn_output_norm"},
      {"intermediate.dense", "ffn_up"},
      {"output.dense", "ffn_down"},
      {"output.LayerNorm", "layer_output_norm"}};
  for (const auto& [published, gguf] : kParts) {
    if (const size_t at = name.find(published); at != std::string::npos)
      name.replace(at, published.size(), gguf);
  }
  return name;
}

bool is_encoder(const GgufFile& file) {
  return file.metadata().text_or("general.architecture", "") == "bert";
}

bool is_encoder(const fs::path& path) {
  if (fs::is_regular_file(path) && is_gguf(path)) return is_encoder(GgufFile(path));
  if (!fs::exists(path / "config.json")) return false;
  const Json config = config_in(path);
  return config.contains("model_type") && config["model_type"] == "bert";
}

ConvertReport convert_encoder(const GgufFile& in, const fs::path& folder, const ConvertOptions& options) {
  check_directions(true, folder);
  return to_folder(in, folder, options);
}

ConvertReport convert_encoder(const fs::path& in, const fs::path& out, const ConvertOptions& options) {
  if (fs::is_regular_file(in)) return convert_encoder(GgufFile(in), out, options);
  check_directions(false, out);
  return to_gguf(in, out, options);
}

}  // namespace gatewright

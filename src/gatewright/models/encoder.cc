#include "gatewright/models/encoder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"
#include "gatewright/base/words.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/models/families/convert_encoder.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargestEncoderConfig = 1 << 20;
constexpr int64_t kLargest = 1 << 20, kWidest = 1 << 16;

int64_t read_size(const Json& config, const char* key, int64_t most, std::string_view what) {
  const auto it = config.find(key);
  require(it != config.end() && it->is_number_integer(), "{}: '{}' must be a whole number", what, key);
  const auto value = it->get<int64_t>();
  require(value >= 1 && value <= most, "{}: '{}' must be in [1, {}], got {}", what, key, most, value);
  return value;
}

/// A key that may only have the value that the encoder has built in.
void require_text(const Json& config, const char* key, std::string_view wanted, std::string_view what) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return;
  require(it->is_string() && it->get_ref<const std::string&>() == wanted,
          "{}: '{}' is {}, supported is \"{}\"", what, key,
          it->is_string() ? fmt::format("{}", Quoted{it->get_ref<const std::string&>()}) : it->type_name(),
          wanted);
}

using Tensors = std::map<std::string, TensorView>;

/// Under its name or, where a head lies beside the encoder, with "bert." before it.
std::string published_name(const Tensors& tensors, const std::string& name) {
  return tensors.contains("bert." + name) ? "bert." + name : name;
}

/// Fills the parameters, whatever the type of a tensor in the file.
template <typename NameOf>
void read_parameters(const Tensors& tensors, const ParameterList& parameters, const std::string& file,
                     const NameOf& name_of) {
  std::vector<std::string> problems;
  for (const NamedTensor& p : parameters) {
    const auto it = tensors.find(name_of(p.name));
    if (it == tensors.end()) {
      problems.push_back(fmt::format("{} is missing", name_of(p.name)));
    } else if (!p.tensor.sizes().equals(it->second.shape)) {
      problems.push_back(fmt::format("{} has shape [{}], [{}] is expected", it->first,
                                     fmt::join(it->second.shape, ", "), fmt::join(p.tensor.sizes(), ", ")));
    } else {
      unpack(it->second.dtype, it->second.data,
             {p.tensor.data_ptr<float>(), static_cast<size_t>(p.tensor.numel())});
    }
  }
  if (problems.empty()) return;
  fail("the weights in {} do not fit its configuration: {}", file, first_of(problems, 5));
}

/// Before memory is taken for what the file does not hold: packed weights take half a byte or more.
void check_size(const EncoderSpec& spec, uint64_t file_bytes, const std::string& file) {
  const int64_t least =
      spec.hidden_size * (spec.vocab_size + spec.max_positions + spec.num_token_types) +
      spec.num_layers * spec.hidden_size * (4 * spec.hidden_size + 2 * spec.intermediate_size);
  require(static_cast<uint64_t>(least) / 4 <= file_bytes,
          "{} describes an encoder of {} parameters, which its {} bytes of weights can't hold", file, least,
          file_bytes);
}

int64_t rows_of(const GgufFile& file, const std::string& name) {
  const TensorView& tensor = file.tensor(name);
  require(tensor.shape.size() == 2, "{}: {} must have two axes", file.metadata().what(), name);
  return tensor.shape[0];
}

EncoderSpec gguf_encoder_spec(const GgufFile& file) {
  const GgufMetadata& keys = file.metadata();
  const auto size = [&](const char* key, int64_t most) {
    const int64_t value = keys.integer(key);
    require(value >= 1 && value <= most, "{}: {} must be in [1, {}], got {}", keys.what(), key, most, value);
    return value;
  };
  require(keys.text("general.architecture") == "bert", "{}: the architecture is {}, supported is \"bert\"",
          keys.what(), Quoted{keys.text("general.architecture")});
  require(keys.integer_or("bert.pooling_type", 1) == 1 && !keys.flag_or("bert.attention.causal", false),
          "{}: supported are encoders that see the whole text and take its mean (bert.pooling_type 1)",
          keys.what());
  EncoderSpec spec{.vocab_size = rows_of(file, "token_embd.weight"),
                   .hidden_size = size("bert.embedding_length", kWidest),
                   .num_layers = size("bert.block_count", kMostLayers),
                   .num_heads = size("bert.attention.head_count", kWidest),
                   .intermediate_size = size("bert.feed_forward_length", kLargest),
                   .max_positions = size("bert.context_length", kLargest),
                   .num_token_types = rows_of(file, "token_types.weight"),
                   .layer_norm_epsilon = keys.number("bert.attention.layer_norm_epsilon")};
  require(spec.hidden_size % spec.num_heads == 0, "{}: the width {} is no multiple of {} heads", keys.what(),
          spec.hidden_size, spec.num_heads);
  return spec;
}

}  // namespace

EncoderSpec parse_encoder_config(std::string_view text, std::string_view what) {
  const Json config = parse_json(text, what);
  require(config.is_object() && config.contains("model_type"), "{}: the key 'model_type' is missing", what);
  require_text(config, "model_type", "bert", what);
  require_text(config, "hidden_act", "gelu", what);
  require_text(config, "position_embedding_type", "absolute", what);
  EncoderSpec spec{.vocab_size = read_size(config, "vocab_size", kLargest, what),
                   .hidden_size = read_size(config, "hidden_size", kWidest, what),
                   .num_layers = read_size(config, "num_hidden_layers", kMostLayers, what),
                   .num_heads = read_size(config, "num_attention_heads", kWidest, what),
                   .intermediate_size = read_size(config, "intermediate_size", kLargest, what),
                   .max_positions = read_size(config, "max_position_embeddings", kLargest, what)};
  if (config.contains("type_vocab_size"))
    spec.num_token_types = read_size(config, "type_vocab_size", kWidest, what);
  if (const auto it = config.find("layer_norm_eps"); it != config.end()) {
    require(it->is_number() && *it > 0 && *it < 1, "{}: 'layer_norm_eps' must be a number between 0 and 1",
            what);
    spec.layer_norm_epsilon = it->get<double>();
  }
  require(spec.hidden_size % spec.num_heads == 0,
          "{}: 'hidden_size' {} is no multiple of 'num_attention_heads' {}", what, spec.hidden_size,
          spec.num_heads);
  return spec;
}

Tensor Encoder::Linear::operator()(const Tensor& x) const { return at::linear(x, weight, bias); }

Encoder::Encoder(EncoderSpec spec) : spec_(spec) {
  const int64_t h = spec.hidden_size, f = spec.intermediate_size;
  const auto linear = [](int64_t out, int64_t in) { return Linear{at::zeros({out, in}), at::zeros({out})}; };
  const auto norm = [&] { return Linear{at::ones({h}), at::zeros({h})}; };
  words_ = at::zeros({spec.vocab_size, h});
  positions_ = at::zeros({spec.max_positions, h});
  token_types_ = at::zeros({spec.num_token_types, h});
  embedding_norm_ = norm();
  for (int64_t i = 0; i < spec.num_layers; ++i)
    layers_.push_back({.query = linear(h, h),
                       .key = linear(h, h),
                       .value = linear(h, h),
                       .attention_output = linear(h, h),
                       .intermediate = linear(f, h),
                       .output = linear(h, f),
                       .attention_norm = norm(),
                       .output_norm = norm()});
}

template <typename Self, typename See>
void Encoder::each_tensor(Self& self, const See& see) {
  const auto pair = [&](const std::string& name, auto& linear) {
    see(name + ".weight", linear.weight);
    see(name + ".bias", linear.bias);
  };
  see("embeddings.word_embeddings.weight", self.words_);
  see("embeddings.position_embeddings.weight", self.positions_);
  see("embeddings.token_type_embeddings.weight", self.token_types_);
  pair("embeddings.LayerNorm", self.embedding_norm_);
  for (size_t i = 0; i < self.layers_.size(); ++i) {
    auto& layer = self.layers_[i];
    const std::string name = fmt::format("encoder.layer.{}.", i);
    pair(name + "attention.self.query", layer.query);
    pair(name + "attention.self.key", layer.key);
    pair(name + "attention.self.value", layer.value);
    pair(name + "attention.output.dense", layer.attention_output);
    pair(name + "attention.output.LayerNorm", layer.attention_norm);
    pair(name + "intermediate.dense", layer.intermediate);
    pair(name + "output.dense", layer.output);
    pair(name + "output.LayerNorm", layer.output_norm);
  }
}

ParameterList Encoder::parameters() const {
  ParameterList list;
  each_tensor(*this, [&](const std::string& name, const Tensor& tensor) {
    list.push_back({.name = name, .tensor = tensor});
  });
  return list;
}

void Encoder::to(const at::Device& device) {
  each_tensor(*this, [&](const std::string&, Tensor& tensor) { tensor = tensor.to(device); });
}

Tensor Encoder::norm(const Linear& norm, const Tensor& x) const {
  return at::layer_norm(x, {spec_.hidden_size}, norm.weight, norm.bias, spec_.layer_norm_epsilon);
}

/// x [B, S, H]; padding [B, 1, 1, S] is added to the scores.
Tensor Encoder::attention(const Layer& layer, const Tensor& x, const Tensor& padding) const {
  const int64_t heads = spec_.num_heads, width = spec_.hidden_size / heads;
  const auto split = [&](const Tensor& t) {
    return t.view({t.size(0), t.size(1), heads, width}).transpose(1, 2);  // [B, heads, S, width]
  };
  const Tensor q = split(layer.query(x)), k = split(layer.key(x)), v = split(layer.value(x));
  const Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(width)) + padding;
  const Tensor mixed = at::matmul(at::softmax(scores, -1), v);
  return layer.attention_output(mixed.transpose(1, 2).reshape(x.sizes()));
}

Tensor Encoder::forward(const Tensor& tokens, const Tensor& mask) const {
  const int64_t length = tokens.size(1);
  require(length >= 1 && length <= spec_.max_positions, "a text of {} tokens, of 1 to {} are possible",
          length, spec_.max_positions);
  // A finite number, so that a row of nothing but padding is no division by zero.
  const Tensor padding = mask.logical_not().to(words_.scalar_type()).unsqueeze(1).unsqueeze(1) * -1e9;
  Tensor x = norm(embedding_norm_,
                  at::embedding(words_, tokens) + positions_.narrow(0, 0, length) + token_types_[0]);
  for (const Layer& layer : layers_) {
    x = norm(layer.attention_norm, x + attention(layer, x, padding));
    x = norm(layer.output_norm, x + layer.output(at::gelu(layer.intermediate(x))));
  }
  return x;
}

Tensor Encoder::embed(const Tensor& tokens, const Tensor& mask) const {
  const Tensor hidden = forward(tokens, mask);
  const Tensor share = mask.to(hidden.scalar_type()).unsqueeze(2);
  const Tensor mean = (hidden * share).sum(1) / share.sum(1).clamp_min(1);
  return mean / mean.norm(2, 1, true).clamp_min(std::numeric_limits<float>::min());
}

Tensor Encoder::embed(std::span<const std::vector<int32_t>> texts) const {
  const at::NoGradGuard no_grad;
  const auto rows = static_cast<int64_t>(texts.size());
  size_t longest = 0;
  for (const std::vector<int32_t>& text : texts) longest = std::max(longest, text.size());
  const Tensor tokens = at::zeros({rows, static_cast<int64_t>(longest)}, at::kLong);
  const Tensor mask = at::zeros({rows, static_cast<int64_t>(longest)}, at::kBool);
  for (int64_t i = 0; i < rows; ++i) {
    const std::vector<int32_t>& text = texts[static_cast<size_t>(i)];
    require(!text.empty(), "a text of no tokens has no embedding");
    for (const int32_t id : text)
      require(id >= 0 && id < spec_.vocab_size, "token {} is not in the vocabulary of {}", id,
              spec_.vocab_size);
    std::copy(text.begin(), text.end(), tokens[i].data_ptr<int64_t>());
    mask[i].narrow(0, 0, static_cast<int64_t>(text.size())).fill_(true);
  }
  return embed(tokens.to(words_.device()), mask.to(words_.device())).to(at::kCPU, at::kFloat).contiguous();
}

Encoder load_encoder(const GgufFile& file) {
  const std::string path = file.paths().front().string();
  const EncoderSpec spec = gguf_encoder_spec(file);
  check_size(spec, file.file_bytes(), path);
  Encoder encoder(spec);
  read_parameters(file.tensors(), encoder.parameters(), path, encoder_gguf_name);
  return encoder;
}

Encoder load_encoder(const std::filesystem::path& path) {
  if (std::filesystem::is_regular_file(path) && is_gguf(path)) return load_encoder(GgufFile(path));
  const std::filesystem::path config = path / "config.json";
  require(std::filesystem::exists(config),
          "{} is no encoder: neither a GGUF file nor a folder with config.json", path.string());
  const EncoderSpec spec = parse_encoder_config(read_file(config, kLargestEncoderConfig), config.string());
  const SafetensorsFolder weights(path);
  check_size(spec, weights.file_bytes(), path.string());
  Encoder encoder(spec);
  read_parameters(weights.tensors(), encoder.parameters(), path.string(),
                  [&](const std::string& name) { return published_name(weights.tensors(), name); });
  return encoder;
}

}  // namespace gatewright

// The sentence encoder BERT (Devlin et al. 2019) as Sentence-BERT uses it (Reimers and Gurevych 2019): a text
// becomes one vector of length 1, near to those of texts that mean the same. Post-norm, exact GELU, learned
// positions.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "gatewright/formats/gguf.h"
#include "gatewright/routing/named_tensor.h"
#include "gatewright/tensor.h"

namespace gatewright {

struct EncoderSpec {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t intermediate_size = 0;
  int64_t max_positions = 0;    // tokens of a text, the marks around it included
  int64_t num_token_types = 2;  // only the first is used
  double layer_norm_epsilon = 1e-12;
};

/// config.json with model_type "bert"; errors name `what` and the key.
EncoderSpec parse_encoder_config(std::string_view text, std::string_view what);

class Encoder {
 public:
  /// All weights zero; fill parameters(). Float32.
  explicit Encoder(EncoderSpec spec);

  /// tokens int64 [B, S], mask bool [B, S] (false: padding, which no token sees) -> [B, S, H] after the last
  /// norm.
  Tensor forward(const Tensor& tokens, const Tensor& mask) const;
  /// The mean of each text's tokens divided by its length: float32 [B, H].
  Tensor embed(const Tensor& tokens, const Tensor& mask) const;
  /// The same for texts as token ids, none empty or longer than max_positions; padded together. Float32 [N,
  /// H] on the CPU.
  Tensor embed(std::span<const std::vector<int32_t>> texts) const;

  /// Hugging Face's names.
  ParameterList parameters() const;
  void to(const at::Device& device);
  const EncoderSpec& spec() const { return spec_; }

 private:
  struct Linear {
    Tensor weight, bias;
    Tensor operator()(const Tensor& x) const;
  };
  struct Layer {
    Linear query, key, value, attention_output, intermediate, output;
    Linear attention_norm, output_norm;  // scale and shift
  };

  Tensor attention(const Layer& layer, const Tensor& x, const Tensor& padding) const;
  Tensor norm(const Linear& norm, const Tensor& x) const;
  /// Calls see(name, tensor) for each tensor of an Encoder or const Encoder.
  template <typename Self, typename See>
  static void each_tensor(Self& self, const See& see);

  EncoderSpec spec_;
  Tensor words_, positions_, token_types_;
  Linear embedding_norm_;
  std::vector<Layer> layers_;
};

/// A Hugging Face folder (config.json, one safetensors file or shards) or a GGUF file of the architecture
/// bert, with weights of any type; they are unpacked. Errors name the file and each tensor that is missing or
/// of another shape; what the encoder does not use (a pooler, a head) is left.
Encoder load_encoder(const std::filesystem::path& path);
/// The same of a GGUF file that is open.
Encoder load_encoder(const GgufFile& file);

}  // namespace gatewright

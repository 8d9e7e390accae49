// A small encoder with random weights, and the files that hold it.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/base/random.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/encoder.h"
#include "tests/testing.h"

namespace gatewright {

inline constexpr EncoderSpec kSpec = {.vocab_size = 30,
                                      .hidden_size = 12,
                                      .num_layers = 2,
                                      .num_heads = 3,
                                      .intermediate_size = 20,
                                      .max_positions = 16,
                                      .layer_norm_epsilon = 1e-6};

inline Json configuration() {
  return {{"model_type", "bert"},   {"vocab_size", 30},         {"hidden_size", 12},
          {"num_hidden_layers", 2}, {"num_attention_heads", 3}, {"intermediate_size", 20},
          {"hidden_act", "gelu"},   {"layer_norm_eps", 1e-6},   {"max_position_embeddings", 16},
          {"type_vocab_size", 2}};
}

inline Encoder random_encoder() {
  Encoder encoder(kSpec);
  RandomStream random(5, "encoder");
  for (const NamedTensor& p : encoder.parameters()) {
    float* values = p.tensor.data_ptr<float>();
    for (int64_t i = 0; i < p.tensor.numel(); ++i) values[i] += 0.5F * random.normal();
  }
  return encoder;
}

inline const std::vector<std::vector<int32_t>> kTexts = {
    {1, 5, 9, 13, 2}, {1, 2}, {1, 29, 0, 7, 7, 7, 21, 4, 11, 3, 28, 17, 6, 8, 10, 2}};

/// A Hugging Face folder of the parameters, with the names changed and other tensors beside them.
inline void write_folder(const TemporaryFolder& folder, ParameterList parameters, const Json& config,
                         const std::string& prefix = "") {
  for (NamedTensor& p : parameters) p.name = prefix + p.name;
  folder.write("config.json", config.dump());
  write_weights(folder / "model.safetensors", parameters);
}

}  // namespace gatewright

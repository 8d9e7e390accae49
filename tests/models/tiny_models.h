// Small decoders for tests: hidden 32, two heads, a vocabulary of 40.
#pragma once

#include <map>
#include <string>

#include "gatewright/base/random.h"
#include "gatewright/experts/registry.h"
#include "gatewright/models/decoder.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/scorer.h"

namespace gatewright {

using Given = std::map<std::string, Value>;

/// Four SwiGLU experts of width 24, top-2 of a linear scorer, renormalised.
inline FeedForwardSpec tiny_routed_layer() {
  FeedForwardSpec layer{.routed = true, .num_experts = 4};
  layer.experts = make_piece(expert_banks(), "swiglu", {{"width", int64_t{24}}});
  layer.router = {.scorer = make_piece(scorers(), "linear"),
                  .selector = make_piece(choice::selectors(), "top_k", {{"top_k", int64_t{2}}}),
                  .weights = {.weighting = choice::Weighting::kRenormalised}};
  return layer;
}

inline DecoderSpec tiny_spec(int64_t num_layers = 2) {
  DecoderSpec spec{.vocab_size = 40, .hidden_size = 32, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  // Weights large enough that attention and routing differ from token to token.
  spec.initializer_range = 0.3;
  spec.layers.assign(static_cast<size_t>(num_layers), tiny_routed_layer());
  return spec;
}

inline DecoderSpec tiny_dense_spec(int64_t num_layers = 2) {
  DecoderSpec spec = tiny_spec(num_layers);
  spec.layers.assign(static_cast<size_t>(num_layers), {.routed = false, .dense_width = 48});
  return spec;
}

/// int64 [B, S]
inline Tensor random_tokens(int64_t rows, int64_t length, int64_t vocab_size, uint64_t seed) {
  RandomStream random(seed, "tokens");
  Tensor tokens = at::empty({rows, length}, at::kLong);
  for (int64_t i = 0; i < tokens.numel(); ++i)
    tokens.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocab_size)));
  return tokens;
}

/// float32 [B, S, V], without gradient.
inline Tensor logits_of(Decoder& model, const Batch& batch, const ForwardOptions& options = {}) {
  const at::NoGradGuard no_grad;
  return model.logits(model.forward(batch, options).hidden);
}

inline std::vector<std::string> names_of(const ParameterList& list) {
  std::vector<std::string> names;
  for (const NamedTensor& p : list) names.push_back(p.name);
  return names;
}

/// The largest |a - b|.
inline double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

}  // namespace gatewright

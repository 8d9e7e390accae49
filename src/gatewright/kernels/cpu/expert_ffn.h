// The feed-forward experts of one assignment, forward and backward, from the tokens' hidden states to their
// weighted sum: gather, grouped products, activation and combine in one call. Nothing is padded to the
// longest expert and the weights are never packed as a whole.
#pragma once

#include <cstdint>

#include "gatewright/kernels/cpu/element.h"

namespace gatewright::kernels {

enum class Activation {
  swiglu,  // h = silu(gate) * up           (Shazeer 2020, "GLU variants improve Transformer")
  gelu,    // h = up (1 + erf(up / sqrt 2)) / 2
  relu,    // h = max(up, 0)
  silu,    // h = up / (1 + exp(-up)), without a gate
  // h = (u + 1) g / (1 + exp(-1.702 g)), g = min(gate, 7), u = up in +- 7 (GPT-OSS); no kernel, tensor
  // operations
  clamped_swiglu
};

struct FfnSizes {
  int64_t tokens = 0;   // T
  int64_t hidden = 0;   // H
  int64_t width = 0;    // F
  int64_t experts = 0;  // E
  Activation activation = Activation::swiglu;
  Element element = Element::float32;  // of hidden states, weights, outputs and their gradients
};

/// Who computes what: the pairs of expert e are [expert_begin[e], expert_begin[e + 1]).
struct FfnPairs {
  const int64_t* expert_begin;  // [E + 1]
  const int64_t* token;         // [N]
  const float* weight;          // [N]
};

/// Row-major, of FfnSizes::element. What an expert does not have is null: no gate but with swiglu, biases as
/// wished (all or none).
template <typename Pointer>
struct FfnParameters {
  Pointer gate = nullptr;       // [E, F, H]
  Pointer up = nullptr;         // [E, F, H]
  Pointer down = nullptr;       // [E, H, F]
  Pointer gate_bias = nullptr;  // [E, F]
  Pointer up_bias = nullptr;    // [E, F]
  Pointer down_bias = nullptr;  // [E, H]
};
using FfnWeights = FfnParameters<const void*>;
using FfnGradients = FfnParameters<void*>;

/// Floats that ffn_forward can leave for ffn_backward: the values before the activation.
int64_t ffn_saved_floats(const FfnSizes& sizes, const FfnPairs& pairs);

/// out [T, H] = for each token the sum over its pairs, in ascending order of the experts, of
/// weight * expert(hidden). saved: ffn_saved_floats floats, or null when no backward follows (or it shall
/// compute them again).
void ffn_forward(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                 float* saved, void* out);

/// The gradients of what ffn_forward computed, given grad_out [T, H]. saved: what it left, or null. Written:
/// grad_hidden [T, H] (unless null), grad_weight [N], and every parameter's gradient (unless null; experts
/// without pairs get zeros).
void ffn_backward(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                  const float* saved, const void* grad_out, void* grad_hidden, float* grad_weight,
                  const FfnGradients& gradients);

}  // namespace gatewright::kernels

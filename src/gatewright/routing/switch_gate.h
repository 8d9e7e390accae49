// The gate of Union of Experts (2025, arXiv 2503.02495) on plain tensors. In a router it is scorer linear,
// selector top_k and, around it, data_selection.
#pragma once

#include "gatewright/routing/choice/selectors/data_selection.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// The scores of each token's `top_k` experts, normalised, and 0 for the others; ties to the lower expert.
/// probabilities [B, T, E] of any float type, softmax(x W^T + b) say -> float32 [B, T, E], without gradient.
Tensor switch_gate(const Tensor& probabilities, int64_t top_k,
                   choice::GateNormalisation normalisation = choice::GateNormalisation::kExperts,
                   double capacity_factor = 1);

}  // namespace gatewright

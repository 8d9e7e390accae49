// The output head and its loss together, a block of tokens at a time, so that the logits of a batch over the
// whole vocabulary are never stored (after Wijmans et al. 2024, "Cut Your Losses").
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// hidden [T, H], head [V, H], targets int64 [T] (-1: none) -> the mean of -log softmax(hidden
/// head^T)[target] over the tokens that have a target, float32 scalar (float64 for float64); 0 when none has.
/// When a gradient will be wanted, it is computed here; backward() hands it over, once.
Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& head, const Tensor& targets);
/// Each token's loss [T] float32, 0 without target. No gradients.
Tensor token_losses(const Tensor& hidden, const Tensor& head, const Tensor& targets);

}  // namespace gatewright

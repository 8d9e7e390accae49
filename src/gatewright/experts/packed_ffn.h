// Experts whose weights stay packed, as one differentiable operation: gradients of the hidden states and of
// the pairs' weights, which is what a router learns from.
#pragma once

#include "gatewright/experts/ffn_function.h"

namespace gatewright {

/// Whether packed_ffn computes these experts: float32 on the CPU, a packed matrix among them, and none that
/// learns.
bool packed_ffn_computes(const Tensor& hidden, const FfnTensors& parameters);

/// hidden [T, H] -> [T, H]. For the backward pass only the values before the activation are kept, 2 F of each
/// pair; the weights' gradient is that of the inner values, h . (W_down^T g), so that no expert's output is
/// needed again.
Tensor packed_ffn(const Tensor& hidden, const Assignment& assignment, const FfnTensors& parameters,
                  Activation activation);

}  // namespace gatewright

// Root mean square normalisation (Zhang and Sennrich 2019).
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// x [..., H], weight [H] -> x / sqrt(mean(x^2) + epsilon) * weight over the last axis, computed in float32
/// (float64 for float64), in the type of x.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);
/// The same in plain tensor operations.
Tensor rms_norm_by_tensor_operations(const Tensor& x, const Tensor& weight, double epsilon);

}  // namespace gatewright

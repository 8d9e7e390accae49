// Root mean square normalisation (Zhang and Sennrich 2019).
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// x [..., H], weight [H] -> x / sqrt(mean(x^2) + epsilon) * weight over the last axis, computed in float32
/// (float64 for float64), in the type of x.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);
struct SumAndNorm {
  Tensor sum, norm;
};
/// A residual sum and the norm that follows it, in one pass: x + delta and rms_norm(x + delta).
SumAndNorm add_rms_norm(const Tensor& x, const Tensor& delta, const Tensor& weight, double epsilon);
/// rms_norm in plain tensor operations.
Tensor rms_norm_by_tensor_operations(const Tensor& x, const Tensor& weight, double epsilon);

}  // namespace gatewright

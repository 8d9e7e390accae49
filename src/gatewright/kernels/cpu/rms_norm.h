// Root mean square normalisation of rows, alone or together with the residual sum before it: memory is what
// it costs, so what follows one another is done in one pass.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

struct RmsNormSizes {
  int64_t rows = 0;  // R
  int64_t size = 0;  // H
  float epsilon = 0;
};

/// sum = x + delta (without delta, which may be null, x itself: sum is not written); inverse [R] =
/// 1 / sqrt(mean(sum^2) + epsilon) of each row; out [R, H] = sum * inverse * weight.
void rms_norm_forward(const RmsNormSizes& sizes, const float* x, const float* delta, const float* weight,
                      float* sum, float* out, float* inverse);

/// The gradients of sum, with that of later uses of it, grad_sum [R, H] (null: none), and of weight [H],
/// given grad_out. Every sum has one order, whatever the number of threads.
void rms_norm_backward(const RmsNormSizes& sizes, const float* sum, const float* weight, const float* inverse,
                       const float* grad_out, const float* grad_sum, float* grad_x, float* grad_weight);

}  // namespace gatewright::kernels

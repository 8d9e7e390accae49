// Passes of the optimiser over float32 values on the calling thread.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// What one AdamW update needs beside the tensors (Loshchilov and Hutter 2019, algorithm 2).
struct AdamWStep {
  float gradient_scale;  // multiplies the gradient first
  float beta1, beta2;
  float step_size;     // learning rate / (1 - beta1^t)
  float second_scale;  // 1 / (1 - beta2^t)
  float epsilon;       // added to the root of the corrected second moment
  float decay;         // the parameter is multiplied by 1 - decay first
};
void adamw_row(float* parameter, const float* gradient, float* first, float* second, int64_t count,
               const AdamWStep& step);

}  // namespace gatewright::kernels

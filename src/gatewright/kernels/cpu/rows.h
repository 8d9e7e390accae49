// Passes over single rows of float32 on the calling thread: the pieces of softmax, and the optimiser's
// update.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// row[i] = exp(scale row[i]) / sum; returns log(sum exp(scale row)). -inf is a masked entry; a row without
/// any other entry becomes zeros and returns -inf. A NaN makes the whole row NaN.
float softmax_row(float* row, int64_t count, float scale);
/// log(sum exp(row)), the row left as it is.
float log_sum_exp_row(const float* row, int64_t count);
/// row[i] = exp(scale row[i] - shift).
void exp_row(float* row, int64_t count, float scale, float shift);

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

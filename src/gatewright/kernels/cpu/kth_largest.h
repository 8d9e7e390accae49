// The k-th largest entry of each row: all that top-k needs to know before it reads a row once more.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// The largest k of kth_largest.
constexpr int64_t kLargestK = 16;

/// out[r] = the k-th largest of values[r, 0 .. width), equal entries counted as often as they occur; -inf
/// where width < k. values [rows, width] without NaN, k in [1, kLargestK]. On the calling thread.
void kth_largest(const float* values, int64_t rows, int64_t width, int64_t k, float* out);

}  // namespace gatewright::kernels

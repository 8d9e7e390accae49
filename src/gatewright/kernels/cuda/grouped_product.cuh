// Products of ragged groups of rows with each group's own matrix, and the products that give those matrices'
// gradients: tiles of 64 x 64, 16 deep, four by four sums a thread, float32 sums.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace gatewright::kernels::cuda {

constexpr int kTile = 64, kDeep = 16, kThreads = 256;

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
template <typename T>
__device__ inline T from_float(float v) {
  return static_cast<T>(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16(v);
}

/// A matrix of rows, gathered when `token` is given.
template <typename T>
struct RowsOf {
  const T* data;
  const int64_t* token;  // null: row r itself
  __device__ float at(int64_t row, int64_t columns, int64_t column) const {
    return to_float(data[(token ? token[row] : row) * columns + column]);
  }
};

/// Sums of a 64 x 64 tile: thread (x, y) of 16 x 16 holds rows 4 y + i and columns 4 x + j.
__device__ inline void multiply_tile(const float (*a)[kTile + 4], const float (*b)[kTile + 4],
                                     float sum[4][4]) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
  for (int k = 0; k < kDeep; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[i][j] += a[k][4 * y + i] * b[k][4 * x + j];
    }
  }
}

/// C [N, n] (+)= rows [N, k] times each group's matrix: W [E, n, k] transposed, or W [E, k, n].
/// Grid: x over tiles of rows (at most ceil(N / 64) + E; those without work return), y over tiles of columns.
template <typename A, typename W, bool kTransposed>
__global__ void grouped_product(const int64_t* begin, int64_t experts, RowsOf<A> rows, const W* weights,
                                const W* bias, int64_t k, int64_t n, bool accumulate, float* c) {
  __shared__ float a_tile[kDeep][kTile + 4], w_tile[kDeep][kTile + 4];
  int64_t expert = 0, tile = blockIdx.x;
  for (; expert < experts; ++expert) {
    const int64_t tiles = (begin[expert + 1] - begin[expert] + kTile - 1) / kTile;
    if (tile < tiles) break;
    tile -= tiles;
  }
  if (expert == experts) return;
  const int64_t first = begin[expert] + tile * kTile, last = begin[expert + 1];
  const int64_t column = int64_t{blockIdx.y} * kTile;
  const W* w = weights + expert * n * k;
  float sum[4][4] = {};
  for (int64_t k0 = 0; k0 < k; k0 += kDeep) {
    for (int i = threadIdx.x; i < kTile * kDeep; i += kThreads) {
      const int64_t r = first + i / kDeep, q = k0 + i % kDeep;
      a_tile[i % kDeep][i / kDeep] = r < last && q < k ? rows.at(r, k, q) : 0.0f;
      // Neighbouring threads read neighbouring numbers in either orientation.
      const int wc = kTransposed ? i % kTile : i / kDeep, wk = kTransposed ? i / kTile : i % kDeep;
      const int64_t o = column + wc, p = k0 + wk;
      w_tile[wk][wc] = o < n && p < k ? to_float(w[kTransposed ? p * n + o : o * k + p]) : 0.0f;
    }
    __syncthreads();
    multiply_tile(a_tile, w_tile, sum);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int64_t r = first + 4 * (threadIdx.x / 16) + i, o = column + 4 * (threadIdx.x % 16) + j;
      if (r >= last || o >= n) continue;
      const float value = sum[i][j] + (bias ? to_float(bias[expert * n + o]) : 0.0f);
      c[r * n + o] = accumulate ? c[r * n + o] + value : value;
    }
  }
}

/// C [E, m, n]: for each group the sum over its rows of weight * a[row, i] * b[row, j]; weight may be null.
/// Grid: x over tiles of m, y over tiles of n, z over experts.
template <typename A, typename B, typename T>
__global__ void grouped_outer_product(const int64_t* begin, RowsOf<A> a, RowsOf<B> b, const float* weight,
                                      int64_t m, int64_t n, T* c) {
  __shared__ float a_tile[kDeep][kTile + 4], b_tile[kDeep][kTile + 4];
  const int64_t expert = blockIdx.z, first = begin[expert], last = begin[expert + 1];
  const int64_t row = int64_t{blockIdx.x} * kTile, column = int64_t{blockIdx.y} * kTile;
  float sum[4][4] = {};
  for (int64_t r0 = first; r0 < last; r0 += kDeep) {
    for (int i = threadIdx.x; i < kTile * kDeep; i += kThreads) {
      const int64_t r = r0 + i / kTile, o = row + i % kTile, p = column + i % kTile;
      const float w = r < last && weight ? weight[r] : 1.0f;
      a_tile[i / kTile][i % kTile] = r < last && o < m ? w * a.at(r, m, o) : 0.0f;
      b_tile[i / kTile][i % kTile] = r < last && p < n ? b.at(r, n, p) : 0.0f;
    }
    __syncthreads();
    multiply_tile(a_tile, b_tile, sum);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int64_t o = row + 4 * (threadIdx.x / 16) + i, p = column + 4 * (threadIdx.x % 16) + j;
      if (o < m && p < n) c[(expert * m + o) * n + p] = from_float<T>(sum[i][j]);
    }
  }
}

}  // namespace gatewright::kernels::cuda

#include "gatewright/kernels/cuda/expert_ffn.h"

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "gatewright/kernels/cuda/grouped_product.cuh"
#include "gatewright/kernels/cuda/launch.cuh"

namespace gatewright::kernels::cuda {
namespace {

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678f)); }

/// h and the derivatives of h with respect to gate and up.
struct Activated {
  float h, by_gate, by_up;
};

__device__ Activated activate(Activation kind, float gate, float up) {
  if (kind == Activation::swiglu) {
    const float s = sigmoid(gate), silu = gate * s;
    return {silu * up, up * (s + silu * (1 - s)), silu};
  }
  if (kind == Activation::gelu) {
    const float cdf = normal_cdf(up);
    return {up * cdf, 0, cdf + up * 0.39894228f * expf(-0.5f * up * up)};
  }
  if (kind == Activation::silu) {
    const float s = sigmoid(up), silu = up * s;
    return {silu, 0, s + silu * (1 - s)};
  }
  return {up < 0 ? 0 : up, 0, up <= 0 ? 0.0f : 1.0f};
}

__global__ void activate_all(Activation kind, const float* gate, const float* up, int64_t count, float* h) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) h[i] = activate(kind, gate ? gate[i] : 0, up[i]).h;
}

/// One block a pair: gradients of gate, up and of the pair's weight; grad_h becomes h.
template <typename T>
__global__ void backward_activation(Activation kind, const int64_t* begin, int64_t experts,
                                    const float* weight, const float* gate, const float* up, int64_t width,
                                    RowsOf<T> grad_out, int64_t hidden, const T* down_bias, float* grad_h,
                                    float* grad_gate, float* grad_up, float* grad_weight) {
  __shared__ float partial[kThreads];
  const int64_t pair = blockIdx.x;
  float sum = 0;
  for (int64_t f = threadIdx.x; f < width; f += kThreads) {
    const int64_t i = pair * width + f;
    const Activated a = activate(kind, gate ? gate[i] : 0, up[i]);
    const float g = grad_h[i], wg = weight[pair] * g;
    if (gate) grad_gate[i] = wg * a.by_gate;
    grad_up[i] = wg * a.by_up;
    grad_h[i] = a.h;
    sum += g * a.h;
  }
  if (down_bias) {
    int64_t expert = 0;
    while (expert + 1 < experts && begin[expert + 1] <= pair) ++expert;
    for (int64_t k = threadIdx.x; k < hidden; k += kThreads)
      sum += grad_out.at(pair, hidden, k) * to_float(down_bias[expert * hidden + k]);
  }
  partial[threadIdx.x] = sum;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) grad_weight[pair] = partial[0];
}

/// One block a token: its pairs are looked up in each expert's ascending tokens, and summed in the order of
/// the experts. Shared memory: one int64 an expert.
template <typename T>
__global__ void combine(const int64_t* begin, int64_t experts, const int64_t* token, const float* weight,
                        const float* rows, int64_t width, T* out) {
  auto* found = shared_memory<int64_t>();
  const int64_t mine = blockIdx.x;
  for (int64_t e = threadIdx.x; e < experts; e += kThreads) {
    int64_t low = begin[e], high = begin[e + 1];
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (token[middle] < mine)
        low = middle + 1;
      else
        high = middle;
    }
    found[e] = low < begin[e + 1] && token[low] == mine ? low : -1;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      if (found[e] >= 0) sum += (weight ? weight[found[e]] : 1.0f) * rows[found[e] * width + i];
    }
    out[mine * width + i] = from_float<T>(sum);
  }
}

/// to [E, n] = sums over each expert's rows of weight * x; weight may be null. Grid: x over columns, y over
/// experts.
template <typename A, typename T>
__global__ void sum_rows(const int64_t* begin, RowsOf<A> x, const float* weight, int64_t n, T* to) {
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x, expert = blockIdx.y;
  if (column >= n) return;
  float sum = 0;
  for (int64_t r = begin[expert]; r < begin[expert + 1]; ++r)
    sum += (weight ? weight[r] : 1.0f) * x.at(r, n, column);
  to[expert * n + column] = from_float<T>(sum);
}

unsigned blocks(int64_t count, int64_t size) { return static_cast<unsigned>((count + size - 1) / size); }

void check(const char* what) {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
    throw std::runtime_error(std::string("[experts] the CUDA kernels of ") + what +
                             " failed: " + cudaGetErrorString(error));
}

/// The launches of one call.
template <typename T>
struct Launch {
  FfnSizes s;
  int64_t pairs;
  FfnPairs p;
  FfnWeights w;
  void* stream;

  static const T* as(const void* data) { return static_cast<const T*>(data); }
  dim3 product_grid(int64_t n) const {
    return {blocks(pairs, kTile) + static_cast<unsigned>(s.experts), blocks(n, kTile)};
  }

  template <bool kTransposed, typename A>
  void product(RowsOf<A> rows, const void* weights, const void* bias, int64_t k, int64_t n, bool accumulate,
               float* c) const {
    launch(grouped_product<A, T, kTransposed>, product_grid(n), kThreads, 0, stream, p.expert_begin,
           s.experts, rows, as(weights), as(bias), k, n, accumulate, c);
  }

  void pre_activation(const void* hidden, float* gate, float* up) const {
    const RowsOf<T> x = {as(hidden), p.token};
    if (w.gate) product<false>(x, w.gate, w.gate_bias, s.hidden, s.width, false, gate);
    product<false>(x, w.up, w.up_bias, s.hidden, s.width, false, up);
  }

  void combine_rows(const float* rows, const float* weight, void* out) const {
    launch(combine<T>, dim3(static_cast<unsigned>(s.tokens)), kThreads,
           static_cast<size_t>(s.experts) * sizeof(int64_t), stream, p.expert_begin, s.experts, p.token,
           weight, rows, s.hidden, static_cast<T*>(out));
  }

  template <typename A, typename B>
  void outer(RowsOf<A> a, RowsOf<B> b, const float* weight, int64_t m, int64_t n, void* c) const {
    if (!c) return;
    const dim3 grid = {blocks(m, kTile), blocks(n, kTile), static_cast<unsigned>(s.experts)};
    launch(grouped_outer_product<A, B, T>, grid, kThreads, 0, stream, p.expert_begin, a, b, weight, m, n,
           static_cast<T*>(c));
  }

  template <typename A>
  void bias_gradient(RowsOf<A> x, const float* weight, int64_t n, void* to) const {
    if (!to) return;
    const dim3 grid = {blocks(n, kThreads), static_cast<unsigned>(s.experts)};
    launch(sum_rows<A, T>, grid, kThreads, 0, stream, p.expert_begin, x, weight, n, static_cast<T*>(to));
  }

  void forward(const void* hidden, float* saved, float* workspace, void* out) const {
    if (s.tokens == 0) return;
    float *up = saved, *gate = w.gate ? saved + pairs * s.width : nullptr;
    float *h = workspace, *y = workspace + pairs * s.width;
    if (pairs > 0) {
      pre_activation(hidden, gate, up);
      launch(activate_all, dim3(blocks(pairs * s.width, kThreads)), kThreads, 0, stream, s.activation, gate,
             up, pairs * s.width, h);
      product<false>(RowsOf<float>{h, nullptr}, w.down, w.down_bias, s.width, s.hidden, false, y);
    }
    combine_rows(y, p.weight, out);
  }

  void backward(const void* hidden, float* saved, bool recompute, const void* grad_out, float* workspace,
                void* grad_hidden, float* grad_weight, const FfnGradients& g) const {
    const int64_t middle = pairs * s.width;
    float *up = saved, *gate = w.gate ? saved + middle : nullptr;
    float *h = workspace, *grad_up = h + middle, *grad_gate = grad_up + middle, *rows = grad_gate + middle;
    const RowsOf<T> x = {as(hidden), p.token}, dy = {as(grad_out), p.token};
    if (pairs > 0) {
      if (recompute) pre_activation(hidden, gate, up);
      product<true>(dy, w.down, nullptr, s.hidden, s.width, false, h);
      launch(backward_activation<T>, dim3(static_cast<unsigned>(pairs)), kThreads, 0, stream, s.activation,
             p.expert_begin, s.experts, p.weight, gate, up, s.width, dy, s.hidden, as(w.down_bias), h,
             grad_gate, grad_up, grad_weight);
      if (grad_hidden) {
        if (w.gate)
          product<true>(RowsOf<float>{grad_gate, nullptr}, w.gate, nullptr, s.width, s.hidden, false, rows);
        product<true>(RowsOf<float>{grad_up, nullptr}, w.up, nullptr, s.width, s.hidden, w.gate != nullptr,
                      rows);
      }
    }
    if (grad_hidden && s.tokens > 0) combine_rows(rows, nullptr, grad_hidden);
    outer(RowsOf<float>{grad_gate, nullptr}, x, nullptr, s.width, s.hidden, g.gate);
    outer(RowsOf<float>{grad_up, nullptr}, x, nullptr, s.width, s.hidden, g.up);
    outer(dy, RowsOf<float>{h, nullptr}, p.weight, s.hidden, s.width, g.down);
    bias_gradient(RowsOf<float>{grad_gate, nullptr}, nullptr, s.width, g.gate_bias);
    bias_gradient(RowsOf<float>{grad_up, nullptr}, nullptr, s.width, g.up_bias);
    bias_gradient(dy, p.weight, s.hidden, g.down_bias);
  }
};

}  // namespace

int64_t ffn_saved_floats(const FfnSizes& sizes, int64_t pairs) {
  return pairs * sizes.width * (sizes.activation == Activation::swiglu ? 2 : 1);
}
int64_t ffn_forward_workspace(const FfnSizes& sizes, int64_t pairs) {
  return pairs * (sizes.width + sizes.hidden);
}
int64_t ffn_backward_workspace(const FfnSizes& sizes, int64_t pairs) {
  return pairs * (3 * sizes.width + sizes.hidden);
}

void ffn_forward(const FfnSizes& sizes, int64_t num_pairs, const FfnPairs& pairs, const FfnWeights& weights,
                 const void* hidden, float* saved, float* workspace, void* out, void* stream) {
  if (sizes.element == Element::float32) {
    Launch<float>{sizes, num_pairs, pairs, weights, stream}.forward(hidden, saved, workspace, out);
  } else {
    Launch<__nv_bfloat16>{sizes, num_pairs, pairs, weights, stream}.forward(hidden, saved, workspace, out);
  }
  check("the forward pass");
}

void ffn_backward(const FfnSizes& sizes, int64_t num_pairs, const FfnPairs& pairs, const FfnWeights& weights,
                  const void* hidden, float* saved, bool recompute, const void* grad_out, float* workspace,
                  void* grad_hidden, float* grad_weight, const FfnGradients& gradients, void* stream) {
  if (sizes.element == Element::float32) {
    Launch<float>{sizes, num_pairs, pairs, weights, stream}.backward(
        hidden, saved, recompute, grad_out, workspace, grad_hidden, grad_weight, gradients);
  } else {
    Launch<__nv_bfloat16>{sizes, num_pairs, pairs, weights, stream}.backward(
        hidden, saved, recompute, grad_out, workspace, grad_hidden, grad_weight, gradients);
  }
  check("the backward pass");
}

}  // namespace gatewright::kernels::cuda

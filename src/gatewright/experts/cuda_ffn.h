// The kernels of kernels/cuda/expert_ffn.h on LibTorch's memory and stream. Defined in builds with
// GATEWRIGHT_CUDA only.
#pragma once

#include "gatewright/kernels/cpu/expert_ffn.h"
#include "gatewright/tensor.h"

namespace gatewright {

#ifdef GATEWRIGHT_CUDA
constexpr bool kHasCudaKernels = true;
#else
constexpr bool kHasCudaKernels = false;
#endif

/// out [T, H] = the experts' weighted sum. Returns the values before the activation, or an empty tensor
/// without `keep`.
Tensor ffn_forward_on_cuda(const kernels::FfnSizes& sizes, int64_t num_pairs, const kernels::FfnPairs& pairs,
                           const kernels::FfnWeights& weights, const Tensor& hidden, bool keep, Tensor& out);

/// saved: what the forward pass returned; grad_hidden may be undefined.
void ffn_backward_on_cuda(const kernels::FfnSizes& sizes, int64_t num_pairs, const kernels::FfnPairs& pairs,
                          const kernels::FfnWeights& weights, const Tensor& hidden, const Tensor& saved,
                          const Tensor& grad_out, const Tensor& grad_hidden, const Tensor& grad_weight,
                          const kernels::FfnGradients& gradients);

}  // namespace gatewright

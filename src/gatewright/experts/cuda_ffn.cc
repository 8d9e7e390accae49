#include "gatewright/experts/cuda_ffn.h"

#ifdef GATEWRIGHT_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "gatewright/kernels/cuda/expert_ffn.h"

namespace gatewright {
namespace {

Tensor floats(int64_t count, const Tensor& like) {
  return at::empty({count}, like.options().dtype(at::kFloat));
}

void* stream_of(const Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

}  // namespace

Tensor ffn_forward_on_cuda(const kernels::FfnSizes& sizes, int64_t num_pairs, const kernels::FfnPairs& pairs,
                           const kernels::FfnWeights& weights, const Tensor& hidden, bool keep, Tensor& out) {
  const c10::cuda::CUDAGuard guard(hidden.device());
  const Tensor values = floats(kernels::cuda::ffn_saved_floats(sizes, num_pairs), hidden);
  const Tensor workspace = floats(kernels::cuda::ffn_forward_workspace(sizes, num_pairs), hidden);
  kernels::cuda::ffn_forward(sizes, num_pairs, pairs, weights, hidden.data_ptr(), values.data_ptr<float>(),
                             workspace.data_ptr<float>(), out.data_ptr(), stream_of(hidden));
  return keep ? values : floats(0, hidden);
}

void ffn_backward_on_cuda(const kernels::FfnSizes& sizes, int64_t num_pairs, const kernels::FfnPairs& pairs,
                          const kernels::FfnWeights& weights, const Tensor& hidden, const Tensor& saved,
                          const Tensor& grad_out, const Tensor& grad_hidden, const Tensor& grad_weight,
                          const kernels::FfnGradients& gradients) {
  const c10::cuda::CUDAGuard guard(hidden.device());
  const bool recompute = saved.numel() == 0;
  const Tensor values = recompute ? floats(kernels::cuda::ffn_saved_floats(sizes, num_pairs), hidden) : saved;
  const Tensor workspace = floats(kernels::cuda::ffn_backward_workspace(sizes, num_pairs), hidden);
  kernels::cuda::ffn_backward(sizes, num_pairs, pairs, weights, hidden.data_ptr(), values.data_ptr<float>(),
                              recompute, grad_out.data_ptr(), workspace.data_ptr<float>(),
                              grad_hidden.defined() ? grad_hidden.data_ptr() : nullptr,
                              grad_weight.data_ptr<float>(), gradients, stream_of(hidden));
}

}  // namespace gatewright
#endif

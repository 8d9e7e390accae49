// The twin of cpu/expert_ffn.h on a CUDA device: the same sizes and structures with device pointers, launched
// on a stream. The host never waits and never reads the offsets of the experts: blocks find their expert
// themselves.
#pragma once

#include <cstdint>

#include "gatewright/kernels/cpu/expert_ffn.h"

namespace gatewright::kernels::cuda {

/// Floats that ffn_forward leaves for ffn_backward: gate (with swiglu) and up before the activation, [N, F].
int64_t ffn_saved_floats(const FfnSizes& sizes, int64_t pairs);
/// Floats of workspace that one call needs.
int64_t ffn_forward_workspace(const FfnSizes& sizes, int64_t pairs);
int64_t ffn_backward_workspace(const FfnSizes& sizes, int64_t pairs);

/// As kernels::ffn_forward; num_pairs is N, saved is never null, stream is a cudaStream_t. Fails with the
/// device's message when a launch does.
void ffn_forward(const FfnSizes& sizes, int64_t num_pairs, const FfnPairs& pairs, const FfnWeights& weights,
                 const void* hidden, float* saved, float* workspace, void* out, void* stream);

/// As kernels::ffn_backward. With `recompute`, saved is only memory and is filled again.
void ffn_backward(const FfnSizes& sizes, int64_t num_pairs, const FfnPairs& pairs, const FfnWeights& weights,
                  const void* hidden, float* saved, bool recompute, const void* grad_out, float* workspace,
                  void* grad_hidden, float* grad_weight, const FfnGradients& gradients, void* stream);

}  // namespace gatewright::kernels::cuda

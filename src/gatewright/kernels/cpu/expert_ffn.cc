#include "gatewright/kernels/cpu/expert_ffn.h"

#include "gatewright/base/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/expert_ffn.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/ffn_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

template <typename T>
void forward_as(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                float* saved, void* out) {
  forward(sizes, pairs, weights, static_cast<const T*>(hidden), saved, static_cast<T*>(out));
}

void forward_any(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                 float* saved, void* out) {
  const auto run = sizes.element == Element::float32 ? forward_as<float> : forward_as<BFloat16>;
  run(sizes, pairs, weights, hidden, saved, out);
}

template <typename T>
void backward_as(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                 const float* saved, const void* grad_out, void* grad_hidden, float* grad_weight,
                 const FfnGradients& gradients) {
  const Backward<T> b = {.s = sizes,
                         .pairs = pairs,
                         .weights = weights,
                         .hidden = static_cast<const T*>(hidden),
                         .saved_up = saved,
                         .saved_gate = nullptr,
                         .grad_out = static_cast<const T*>(grad_out),
                         .grad_weight = grad_weight,
                         .gradients = gradients,
                         .buffers = {},
                         .plan = nullptr};
  backward(b, static_cast<T*>(grad_hidden));
}

void backward_any(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                  const float* saved, const void* grad_out, void* grad_hidden, float* grad_weight,
                  const FfnGradients& gradients) {
  const auto run = sizes.element == Element::float32 ? backward_as<float> : backward_as<BFloat16>;
  run(sizes, pairs, weights, hidden, saved, grad_out, grad_hidden, grad_weight, gradients);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(forward_any);
HWY_EXPORT(backward_any);

int64_t ffn_saved_floats(const FfnSizes& sizes, const FfnPairs& pairs) {
  constexpr int64_t kPanelRows = 32;
  const int64_t panels = plan_ffn(sizes.experts, pairs.expert_begin, kPanelRows).num_panels();
  return panels * kPanelRows * sizes.width * (sizes.activation == Activation::swiglu ? 2 : 1);
}

void ffn_forward(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                 float* saved, void* out) {
  HWY_DYNAMIC_DISPATCH(forward_any)(sizes, pairs, weights, hidden, saved, out);
}

void ffn_backward(const FfnSizes& sizes, const FfnPairs& pairs, const FfnWeights& weights, const void* hidden,
                  const float* saved, const void* grad_out, void* grad_hidden, float* grad_weight,
                  const FfnGradients& gradients) {
  HWY_DYNAMIC_DISPATCH(backward_any)
  (sizes, pairs, weights, hidden, saved, grad_out, grad_hidden, grad_weight, gradients);
}

}  // namespace gatewright::kernels
#endif

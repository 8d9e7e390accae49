#include "gatewright/kernels/cpu/adamw.h"

#include "gatewright/base/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/adamw.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/row_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

template <typename D>
HWY_INLINE void adamw_lanes(D d, float* parameter, const float* gradient, float* first, float* second,
                            const AdamWStep& s) {
  const auto g = hn::Mul(hn::LoadU(d, gradient), hn::Set(d, s.gradient_scale));
  const auto m = hn::MulAdd(hn::LoadU(d, first), hn::Set(d, s.beta1), hn::Mul(g, hn::Set(d, 1.0f - s.beta1)));
  const auto v = hn::MulAdd(hn::LoadU(d, second), hn::Set(d, s.beta2),
                            hn::Mul(hn::Mul(g, g), hn::Set(d, 1.0f - s.beta2)));
  const auto root = hn::Add(hn::Sqrt(hn::Mul(v, hn::Set(d, s.second_scale))), hn::Set(d, s.epsilon));
  const auto kept = hn::Mul(hn::LoadU(d, parameter), hn::Set(d, 1.0f - s.decay));
  hn::StoreU(hn::NegMulAdd(hn::Set(d, s.step_size), hn::Div(m, root), kept), d, parameter);
  hn::StoreU(m, d, first);
  hn::StoreU(v, d, second);
}

void adamw(float* parameter, const float* gradient, float* first, float* second, int64_t count,
           const AdamWStep& step) {
  for_lanes(count, [&](auto d, int64_t i) HWY_ATTR {
    adamw_lanes(d, parameter + i, gradient + i, first + i, second + i, step);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(adamw);

void adamw_row(float* parameter, const float* gradient, float* first, float* second, int64_t count,
               const AdamWStep& step) {
  HWY_DYNAMIC_DISPATCH(adamw)(parameter, gradient, first, second, count, step);
}

}  // namespace gatewright::kernels
#endif

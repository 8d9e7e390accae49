#include "gatewright/kernels/cpu/rotary.h"

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/rotary.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/row_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

void rotate_head(int64_t half, const float* x, const float* cosine, const float* sine, float direction,
                 float* out) {
  for_lanes(half, [=](auto d, int64_t i) HWY_ATTR {
    const auto c = hn::LoadU(d, cosine + i), s = hn::Mul(hn::LoadU(d, sine + i), hn::Set(d, direction));
    const auto first = hn::LoadU(d, x + i), second = hn::LoadU(d, x + half + i);
    hn::StoreU(hn::NegMulAdd(second, s, hn::Mul(first, c)), d, out + i);
    hn::StoreU(hn::MulAdd(first, s, hn::Mul(second, c)), d, out + half + i);
  });
}

void rotate_halves_on(int64_t tokens, int64_t heads, int64_t head_dim, const float* x, const float* cosine,
                      const float* sine, const int64_t* position, float direction, float* out) {
  const int64_t half = head_dim / 2;
  parallel_for(0, tokens, 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = t * heads; h < (t + 1) * heads; ++h)
        rotate_head(half, x + h * head_dim, cosine + position[t] * half, sine + position[t] * half, direction,
                    out + h * head_dim);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(rotate_halves_on);

void rotate_halves(int64_t tokens, int64_t heads, int64_t head_dim, const float* x, const float* cosine,
                   const float* sine, const int64_t* position, float direction, float* out) {
  HWY_DYNAMIC_DISPATCH(rotate_halves_on)
  (tokens, heads, head_dim, x, cosine, sine, position, direction, out);
}

}  // namespace gatewright::kernels
#endif

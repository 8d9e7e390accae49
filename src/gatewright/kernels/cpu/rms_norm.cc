#include "gatewright/kernels/cpu/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/rms_norm.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/row_lanes-inl.h"
#include "gatewright/kernels/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kRowBlock = 64;  // rows whose weight gradients are summed together

void norm_row(int64_t size, float epsilon, const float* x, const float* delta, const float* weight,
              float* sum, float* out, float* inverse) {
  if (delta) {
    for_lanes(size, [=](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, delta + i)), d, sum + i);
    });
    x = sum;
  }
  const float squares = sum_lanes(size, [=](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    return hn::Mul(v, v);
  });
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(size) + epsilon);
  for_lanes(size, [=](auto d, int64_t i) HWY_ATTR {
    const auto normal = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor));
    hn::StoreU(hn::Mul(normal, hn::LoadU(d, weight + i)), d, out + i);
  });
  *inverse = factor;
}

void rms_norm_forward_on(const RmsNormSizes& s, const float* x, const float* delta, const float* weight,
                         float* sum, float* out, float* inverse) {
  parallel_for(0, s.rows, 16, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * s.size;
      norm_row(s.size, s.epsilon, x + at, delta ? delta + at : nullptr, weight, sum ? sum + at : nullptr,
               out + at, inverse + r);
    }
  });
}

/// With n = x r: grad_x = r (g w - n mean(g w n)) + later, grad_weight += g n.
void grad_row(int64_t size, const float* x, const float* weight, float inverse, const float* g,
              const float* later, float* grad_x, float* grad_weight) {
  const float products = sum_lanes(size, [=](auto d, int64_t i) HWY_ATTR {
    return hn::Mul(hn::Mul(hn::LoadU(d, g + i), hn::LoadU(d, weight + i)), hn::LoadU(d, x + i));
  });
  const float mean = products * inverse * inverse / static_cast<float>(size);
  for_lanes(size, [=](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i), grad = hn::LoadU(d, g + i), factor = hn::Set(d, inverse);
    const auto centered = hn::NegMulAdd(v, hn::Set(d, mean), hn::Mul(grad, hn::LoadU(d, weight + i)));
    const auto result =
        later ? hn::MulAdd(factor, centered, hn::LoadU(d, later + i)) : hn::Mul(factor, centered);
    hn::StoreU(result, d, grad_x + i);
    hn::StoreU(hn::MulAdd(hn::Mul(grad, v), factor, hn::LoadU(d, grad_weight + i)), d, grad_weight + i);
  });
}

void rms_norm_backward_on(const RmsNormSizes& s, const float* x, const float* weight, const float* inverse,
                          const float* grad_out, const float* grad_sum, float* grad_x, float* grad_weight) {
  const int64_t blocks = (s.rows + kRowBlock - 1) / kRowBlock;
  Scratch scratch;
  float* partial = scratch.floats(blocks * s.size);
  parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    std::fill(partial + first * s.size, partial + last * s.size, 0.0f);
    for (int64_t r = first * kRowBlock; r < std::min(s.rows, last * kRowBlock); ++r) {
      const int64_t at = r * s.size;
      grad_row(s.size, x + at, weight, inverse[r], grad_out + at, grad_sum ? grad_sum + at : nullptr,
               grad_x + at, partial + r / kRowBlock * s.size);
    }
  });
  std::fill(grad_weight, grad_weight + s.size, 0.0f);
  for (int64_t b = 0; b < blocks; ++b) {
    for_lanes(s.size, [=](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, grad_weight + i), hn::LoadU(d, partial + b * s.size + i)), d,
                 grad_weight + i);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(rms_norm_forward_on);
HWY_EXPORT(rms_norm_backward_on);

void rms_norm_forward(const RmsNormSizes& sizes, const float* x, const float* delta, const float* weight,
                      float* sum, float* out, float* inverse) {
  HWY_DYNAMIC_DISPATCH(rms_norm_forward_on)(sizes, x, delta, weight, sum, out, inverse);
}
void rms_norm_backward(const RmsNormSizes& sizes, const float* sum, const float* weight, const float* inverse,
                       const float* grad_out, const float* grad_sum, float* grad_x, float* grad_weight) {
  HWY_DYNAMIC_DISPATCH(rms_norm_backward_on)
  (sizes, sum, weight, inverse, grad_out, grad_sum, grad_x, grad_weight);
}

}  // namespace gatewright::kernels
#endif

#include "gatewright/kernels/cpu/rows.h"

#include <cmath>
#include <limits>

#include "gatewright/kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/rows.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using RowTag = hn::ScalableTag<float>;
using RowVec = hn::Vec<RowTag>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The largest entry; NaN entries are skipped (they show in the sum of the exponentials).
float largest(const float* row, int64_t count) {
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  RowVec best = hn::Set(d, -kInfinity);
  int64_t i = 0;
  for (; i + n <= count; i += n) best = hn::Max(best, hn::LoadU(d, row + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < count; ++i) result = row[i] > result ? row[i] : result;
  return result;
}

HWY_INLINE RowVec exp_of(RowVec x, float scale, float shift) {
  const RowTag d;
  return hn::Exp(d, hn::MulSub(x, hn::Set(d, scale), hn::Set(d, shift)));
}

/// exp(scale row - shift), summed; stored when `to` is not null.
float exp_sum(const float* row, int64_t count, float scale, float shift, float* to) {
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  RowVec sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const RowVec e = exp_of(hn::LoadU(d, row + i), scale, shift);
    if (to) hn::StoreU(e, d, to + i);
    sum = hn::Add(sum, e);
  }
  float result = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) {
    const float e = hn::GetLane(exp_of(hn::Set(d, row[i]), scale, shift));
    if (to) to[i] = e;
    result += e;
  }
  return result;
}

void multiply(float* row, int64_t count, float factor) {
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(hn::Mul(hn::LoadU(d, row + i), hn::Set(d, factor)), d, row + i);
  for (; i < count; ++i) row[i] *= factor;
}

float softmax(float* row, int64_t count, float scale) {
  const float shift = largest(row, count) * scale;
  if (shift == -kInfinity) {
    for (int64_t i = 0; i < count; ++i) row[i] = row[i] == row[i] ? 0.0f : row[i];
    return -kInfinity;
  }
  const float sum = exp_sum(row, count, scale, shift, row);
  multiply(row, count, 1.0f / sum);
  return shift + std::log(sum);
}

float log_sum_exp(const float* row, int64_t count) {
  const float shift = largest(row, count);
  return shift == -kInfinity ? shift : shift + std::log(exp_sum(row, count, 1.0f, shift, nullptr));
}

void exponentials(float* row, int64_t count, float scale, float shift) {
  exp_sum(row, count, scale, shift, row);
}

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
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= count; i += n) adamw_lanes(d, parameter + i, gradient + i, first + i, second + i, step);
  for (; i < count; ++i)
    adamw_lanes(hn::CappedTag<float, 1>(), parameter + i, gradient + i, first + i, second + i, step);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(softmax);
HWY_EXPORT(log_sum_exp);
HWY_EXPORT(exponentials);
HWY_EXPORT(adamw);

float softmax_row(float* row, int64_t count, float scale) {
  return HWY_DYNAMIC_DISPATCH(softmax)(row, count, scale);
}
float log_sum_exp_row(const float* row, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(log_sum_exp)(row, count);
}
void exp_row(float* row, int64_t count, float scale, float shift) {
  HWY_DYNAMIC_DISPATCH(exponentials)(row, count, scale, shift);
}
void adamw_row(float* parameter, const float* gradient, float* first, float* second, int64_t count,
               const AdamWStep& step) {
  HWY_DYNAMIC_DISPATCH(adamw)(parameter, gradient, first, second, count, step);
}

}  // namespace gatewright::kernels
#endif

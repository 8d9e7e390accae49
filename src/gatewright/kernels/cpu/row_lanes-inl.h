// Loops over the values of a row, vectors first and then one by one.
#if defined(GATEWRIGHT_KERNELS_ROW_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_ROW_LANES_INL_H_
#undef GATEWRIGHT_KERNELS_ROW_LANES_INL_H_
#else
#define GATEWRIGHT_KERNELS_ROW_LANES_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using RowTag = hn::ScalableTag<float>;
using RowVec = hn::Vec<RowTag>;
using OneTag = hn::CappedTag<float, 1>;

/// Calls body(tag, i) for i = 0, lanes, 2 lanes, ... and, for what is left, once for each value.
template <typename Body>
HWY_INLINE void for_lanes(int64_t count, const Body& body) {
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= count; i += n) body(d, i);
  for (; i < count; ++i) body(OneTag(), i);
}

/// The sum of term(tag, i) over [0, count).
template <typename Term>
HWY_INLINE float sum_lanes(int64_t count, const Term& term) {
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  RowVec even = hn::Zero(d), odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    even = hn::Add(even, term(d, i));
    odd = hn::Add(odd, term(d, i + n));
  }
  if (i + n <= count) {
    even = hn::Add(even, term(d, i));
    i += n;
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < count; ++i) sum += hn::GetLane(term(OneTag(), i));
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target

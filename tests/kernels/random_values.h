// Random values and comparisons for tests of kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gatewright/base/random.h"

namespace gatewright::kernels {

inline std::vector<float> normals(int64_t count, RandomStream& random) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = random.normal();
  return values;
}

/// The largest absolute difference; not a number anywhere counts as infinite.
template <typename Left, typename Right>
double largest_difference(const std::vector<Left>& a, const std::vector<Right>& b) {
  double largest = a.size() == b.size() ? 0 : HUGE_VAL;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    largest = difference <= largest ? largest : std::isnan(difference) ? HUGE_VAL : difference;
  }
  return largest;
}

}  // namespace gatewright::kernels

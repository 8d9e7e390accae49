// The middle of several measurements: one that was disturbed does not move it.
#pragma once

#include <algorithm>
#include <vector>

namespace gatewright::bench {

inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace gatewright::bench

// Uneven pieces of work for all threads: whoever is free takes the next one. An item writes only what belongs
// to it, so the result does not depend on who took it.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "gatewright/base/parallel.h"

namespace gatewright::kernels {

/// Calls body(item) for every item of [0, count). body must not throw.
template <typename Body>
void for_each_item(int64_t count, const Body& body) {
  const int threads =
      omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(count, gatewright::num_threads()));
  if (threads <= 1) {
    for (int64_t item = 0; item < count; ++item) body(item);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t item = 0; item < count; ++item) body(item);
}

}  // namespace gatewright::kernels

// Parallel loops over one pool of threads: OpenMP's, which LibTorch and OpenBLAS share, so that threads are
// started once and a loop inside a loop runs on its own thread.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace gatewright {

/// Threads used by parallel loops from here on (and by LibTorch and OpenBLAS where they are linked).
inline void set_num_threads(int threads) { omp_set_num_threads(std::max(1, threads)); }
inline int num_threads() { return omp_get_max_threads(); }

/// Calls body(begin, end) on consecutive pieces of [begin, end), at most one a thread and none shorter than
/// grain (but the last). The pieces depend only on the range, the grain and the number of threads. The first
/// exception is rethrown.
template <typename Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  const int64_t count = end - begin;
  if (count <= 0) return;
  const int64_t wanted = (count + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int threads = omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(wanted, num_threads()));
  if (threads <= 1) return body(begin, end);
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)
  {
    const int64_t piece = (count + threads - 1) / threads;
    const int64_t first = begin + piece * omp_get_thread_num();
    const int64_t last = std::min(end, first + piece);
    try {
      if (first < last) body(first, last);
    } catch (...) {
#pragma omp critical(gatewright_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace gatewright

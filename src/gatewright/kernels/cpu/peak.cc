#include "gatewright/kernels/cpu/peak.h"

#include <algorithm>
#include <chrono>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/peak.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// Runs `steps` multiply-adds on each of twelve registers and returns the number of operations.
double multiply_add(int64_t steps, float* sink) {
  constexpr int kRegisters = 12;
  const FloatTag d;
  FloatVec sum[kRegisters];
  for (int i = 0; i < kRegisters; ++i) sum[i] = hn::Set(d, static_cast<float>(i));
  const FloatVec factor = hn::Set(d, 0.999f);
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kRegisters; ++i) sum[i] = hn::MulAdd(sum[i], factor, factor);
  }
  for (int i = 1; i < kRegisters; ++i) sum[0] = hn::Add(sum[0], sum[i]);
  *sink = hn::GetLane(sum[0]);
  return 2.0 * kRegisters * static_cast<double>(lanes() * steps);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(multiply_add);

double peak_gflops() {
  constexpr int kRuns = 5;
  constexpr int64_t kSteps = 2'000'000;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    double operations = 0;
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel reduction(+ : operations)
    {
      volatile float kept;
      float sink = 0;
      operations = HWY_DYNAMIC_DISPATCH(multiply_add)(kSteps, &sink);
      kept = sink;
      (void)kept;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, operations / seconds / 1e9);
  }
  return best;
}

}  // namespace gatewright::kernels
#endif

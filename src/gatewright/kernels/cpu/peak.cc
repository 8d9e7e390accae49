#include "gatewright/kernels/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

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

/// A multiply-add for each vector of `values`, as a product that uses every weight once makes it.
float sum_of(const float* values, int64_t count) {
  constexpr int kRegisters = 8;
  const FloatTag d;
  const int64_t step = kRegisters * static_cast<int64_t>(lanes());
  FloatVec sum[kRegisters];
  for (FloatVec& s : sum) s = hn::Zero(d);
  const FloatVec factor = hn::Set(d, 0.5f);
  for (int64_t i = 0; i + step <= count; i += step) {
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r)
      sum[r] = hn::MulAdd(hn::LoadU(d, values + i + r * static_cast<int64_t>(lanes())), factor, sum[r]);
  }
  for (int r = 1; r < kRegisters; ++r) sum[0] = hn::Add(sum[0], sum[r]);
  return hn::GetLane(sum[0]);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(multiply_add);
HWY_EXPORT(sum_of);

constexpr int kRuns = 5;

double peak_gflops() {
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

double peak_read_gigabytes() {
  constexpr int64_t kPiece = 1 << 16, kPieces = 1 << 10;  // 256 MB
  const std::vector<float> values(static_cast<size_t>(kPiece * kPieces), 1.0f);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    std::atomic<float> kept = 0;
    parallel_for(0, kPieces, 16, [&](int64_t begin, int64_t end) {
      float sum = 0;
      for (int64_t i = begin; i < end; ++i)
        sum += HWY_DYNAMIC_DISPATCH(sum_of)(values.data() + i * kPiece, kPiece);
      kept = sum;
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(sizeof(float) * values.size()) / seconds / 1e9);
  }
  return best;
}

}  // namespace gatewright::kernels
#endif

#include "gatewright/kernels/cpu/kth_largest.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/kth_largest.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using KthTag = hn::CappedTag<float, 16>;  // a lane is a row
constexpr int64_t kColumns = 32;          // columns of a tile

/// Puts each entry of the tile's columns into its row's k kept ones, which fall from the first to the last.
void insert_columns(const float* tile, int64_t columns, int64_t k, float* kept) {
  const KthTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < columns; ++c) {
    auto entry = hn::Load(d, tile + c * lanes);
    for (int64_t j = 0; j < k; ++j) {
      const auto held = hn::Load(d, kept + j * lanes);
      hn::Store(hn::Max(held, entry), d, kept + j * lanes);
      entry = hn::Min(held, entry);
    }
  }
}

void kth_largest(const float* values, int64_t rows, int64_t width, int64_t k, float* out) {
  const KthTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float tile[kColumns * 16], kept[kLargestK * 16];
  for (int64_t r = 0; r < rows; r += lanes) {
    const int64_t count = std::min(lanes, rows - r);
    std::fill_n(kept, k * lanes, -std::numeric_limits<float>::infinity());
    for (int64_t c = 0; c < width; c += kColumns) {
      const int64_t columns = std::min(kColumns, width - c);
      for (int64_t i = 0; i < lanes; ++i) {
        const float* row =
            values + (r + std::min(i, count - 1)) * width + c;  // a lane too many repeats the last
        for (int64_t j = 0; j < columns; ++j) tile[j * lanes + i] = row[j];
      }
      insert_columns(tile, columns, k, kept);
    }
    std::copy_n(kept + (k - 1) * lanes, count, out + r);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(kth_largest);

void kth_largest(const float* values, int64_t rows, int64_t width, int64_t k, float* out) {
  HWY_DYNAMIC_DISPATCH(kth_largest)(values, rows, width, k, out);
}

}  // namespace gatewright::kernels
#endif

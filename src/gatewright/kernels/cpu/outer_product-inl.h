// Gradients of weights: C[i, j] = sum over an expert's rows r of A[i, r] B[r, j], where A are panels (a panel
// read across is already the left layout of the tile) and B's rows are copied a block of columns at a time.
#if defined(GATEWRIGHT_KERNELS_OUTER_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_OUTER_PRODUCT_INL_H_
#undef GATEWRIGHT_KERNELS_OUTER_PRODUCT_INL_H_
#else
#define GATEWRIGHT_KERNELS_OUTER_PRODUCT_INL_H_
#endif

#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "gatewright/kernels/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kOuterColumns = 256;  // columns of B held at once
constexpr int64_t kOuterRows = 256;     // rows of B held at once

template <typename T>
struct OuterProduct {
  Panels a;
  T* c;  // [a.features, C's columns]
};

/// to[i, j] (+)= from[i, j] for the columns of one sub-panel.
template <typename T>
void store_tile(const float* from, int64_t rows, int64_t columns, T* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[i * stride + j] = from_float<T>(from[i * kPanel + j]);
  }
}

/// Where the tiles of one product's columns go: C itself, or a float32 buffer in sub-panels of 32 columns.
struct OuterTarget {
  float* data;
  int64_t row_stride, sub_stride;
  float* at(int64_t row, int64_t sub) const { return data + row * row_stride + sub * sub_stride; }
};

/// Adds `depth` rows, from row r on, of one product. b: sub-panels of kOuterRows x 32.
HWY_INLINE void outer_block(const Panels& a, int64_t r, int64_t depth, const float* b, int64_t subs,
                            const OuterTarget& c) {
  constexpr int64_t kAhead = 3;  // tiles whose memory is asked for in advance
  const int64_t tiles = num_tiles(a.features);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = tile_begin(a.features, tiles, t), end = tile_begin(a.features, tiles, t + 1);
    for (int64_t j = 0; j < subs; ++j) {
      const bool wraps = j + kAhead >= subs;
      const float* ahead = c.at(wraps ? std::min(end, a.features - 1) : row, (j + kAhead) % subs);
      tile_columns<Layout::rows>(static_cast<int>(end - row), kPanel,
                                 {.k = depth,
                                  .a = a.at(r / kPanel, row),
                                  .a_block_stride = a.features * kPanel,
                                  .b = b + j * kPanel * kOuterRows,
                                  .b_stride = kPanel,
                                  .c = c.at(row, j),
                                  .c_stride = c.row_stride,
                                  .accumulate = r > 0,
                                  .prefetch = {.base = reinterpret_cast<const char*>(ahead),
                                               .step = c.row_stride * static_cast<int64_t>(sizeof(float)),
                                               .block_step = 0}});
    }
  }
}

/// Columns [first, last) of all `products`, which share B. pack(row, rows, column, columns, to) copies a
/// piece of B to to[r * 32 + j]. With no rows, C becomes zero.
template <typename T, typename Pack>
void outer_products(const OuterProduct<T>* products, int count, int64_t stride, int64_t first, int64_t last,
                    const Pack& pack) {
  if (count == 0) return;
  Scratch scratch;
  const int64_t subs = (last - first + kPanel - 1) / kPanel;
  const int64_t rows = products[0].a.tokens, features = products[0].a.features;
  const bool direct = std::is_same_v<T, float> && (last - first) % kPanel == 0;
  float* b = scratch.floats(subs * kPanel * kOuterRows);
  // Sums over several blocks of rows stay in float32 until the last.
  float* sums = direct ? nullptr : scratch.floats(count * features * subs * kPanel);
  for (int64_t r = 0; r < std::max<int64_t>(rows, 1); r += kOuterRows) {
    const int64_t depth = std::min(kOuterRows, rows - r);
    for (int64_t j = 0; j < subs; ++j) {
      const int64_t column = first + j * kPanel;
      pack(r, depth, column, std::min(kPanel, last - column), b + j * kPanel * kOuterRows);
    }
    for (int q = 0; q < count; ++q) {
      OuterTarget target = {sums + q * features * subs * kPanel, kPanel, features * kPanel};
      if constexpr (std::is_same_v<T, float>) {
        if (direct) target = {products[q].c + first, stride, kPanel};
      }
      outer_block(products[q].a, r, depth, b, subs, target);
    }
  }
  if (direct) return;
  for (int q = 0; q < count; ++q) {
    for (int64_t j = 0; j < subs; ++j) {
      const int64_t column = first + j * kPanel;
      store_tile(sums + (q * subs + j) * features * kPanel, features, std::min(kPanel, last - column),
                 products[q].c + column, stride);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target

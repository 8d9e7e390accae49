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

/// A strip of C: some features by all the columns. A function of its own, because with few rows a call of a
/// tile would cost as much as the tile.
struct OuterStrip {
  Panels a;
  int64_t feature, row, depth;  // A's part: features from `feature` on, `depth` rows from `row` on
  const float* b;               // sub-panels of kOuterRows x 32
  int64_t subs;
  OuterTarget c;
  bool accumulate;
};

template <int kRows>
HWY_NOINLINE void outer_strip(const OuterStrip& s) {
  const FloatTag d;
  const int64_t n = lanes();
  const float* const first = s.a.at(s.row / kPanel, s.feature);
  const int64_t block_stride = s.a.features * kPanel;
  for (int64_t j = 0; j < s.subs; ++j) {
    for (int64_t column = 0; column < kPanel; column += 2 * n) {
      FloatVec low[kRows], high[kRows];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) low[i] = high[i] = hn::Zero(d);
      const float* b = s.b + j * kPanel * kOuterRows + column;
      const float* block = first;
      for (int64_t left = s.depth; left > 0; left -= kPanel, block += block_stride) {
        const float* a = block;
        const float* const end = block + std::min(left, kPanel);
        for (; a != end; ++a, b += kPanel) {
          const FloatVec b0 = hn::Load(d, b), b1 = hn::Load(d, b + n);
#pragma GCC unroll 16
          for (int i = 0; i < kRows; ++i) {
            const FloatVec value = hn::Set(d, a[i * kPanel]);
            low[i] = hn::MulAdd(value, b0, low[i]);
            high[i] = hn::MulAdd(value, b1, high[i]);
          }
        }
      }
      float* c = s.c.at(s.feature, j) + column;
      if (s.accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i, c += s.c.row_stride) {
          hn::StoreU(hn::Add(low[i], hn::LoadU(d, c)), d, c);
          hn::StoreU(hn::Add(high[i], hn::LoadU(d, c + n)), d, c + n);
        }
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i, c += s.c.row_stride) {
          hn::StoreU(low[i], d, c);
          hn::StoreU(high[i], d, c + n);
        }
      }
    }
  }
}

using OuterStripFunction = void (*)(const OuterStrip&);

template <int... kRows>
HWY_INLINE OuterStripFunction outer_strip_of(int64_t rows, std::integer_sequence<int, kRows...>) {
  static constexpr OuterStripFunction table[] = {outer_strip<kRows + 1>...};
  return table[rows - 1];
}

/// Adds `depth` rows, from row r on, of one product. b: sub-panels of kOuterRows x 32.
HWY_INLINE void outer_block(const Panels& a, int64_t r, int64_t depth, const float* b, int64_t subs,
                            const OuterTarget& c) {
  constexpr auto all = std::make_integer_sequence<int, kTileRows>();
  const int64_t tiles = num_tiles(a.features);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t feature = tile_begin(a.features, tiles, t);
    const int64_t count = tile_begin(a.features, tiles, t + 1) - feature;
    outer_strip_of(count, all)({a, feature, r, depth, b, subs, c, r > 0});
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

// Products of a few rows with a large matrix that is used once: the matrix is read where it lies, line by
// line and as vectors, the rows are broadcast value by value. In contrast to panel_product-inl.h, where the
// tokens are the vectors, 17 rows cost 17/16 of 16 rows and not 24/16.
#if defined(GATEWRIGHT_KERNELS_ROW_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_ROW_PRODUCT_INL_H_
#undef GATEWRIGHT_KERNELS_ROW_PRODUCT_INL_H_
#else
#define GATEWRIGHT_KERNELS_ROW_PRODUCT_INL_H_
#endif

#include "gatewright/kernels/cpu/panel_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// Columns of a row tile: two vectors, so that with AVX2 and AVX-512 whole cache lines are read and written.
HWY_INLINE int64_t row_tile_columns() { return 2 * lanes(); }

template <typename T>
struct RowTile {
  int64_t k = 0;
  const float* a = nullptr;  // of a panel: row i at step k is a[k * kPanel + i]
  const T* b = nullptr;
  int64_t b_stride = 0;
  float* copy = nullptr;  // where B goes on the way, two vectors for each k
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
  const char* prefetch = nullptr;  // a line for each k
};

/// C[i, j] (+)= sum_k A[i, k] B[k, j] for kRows rows and two vectors of columns.
template <int kRows, bool kCopy, typename T>
HWY_NOINLINE void row_tile(const RowTile<T>& t) {
  const FloatTag d;
  const int64_t n = lanes();
  FloatVec low[kRows], high[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) low[i] = high[i] = hn::Zero(d);
  const float* a = t.a;
  const T* b = t.b;
  float* copy = t.copy;
  const char* prefetch = t.prefetch;
#pragma GCC unroll 2
  for (int64_t k = 0; k < t.k; ++k, a += kPanel, b += t.b_stride) {
    const FloatVec b0 = load(d, b), b1 = load(d, b + n);
    if constexpr (kCopy) {
      hn::Store(b0, d, copy);
      hn::Store(b1, d, copy + n);
      copy += 2 * n;
      __builtin_prefetch(prefetch, 0, 2);
      prefetch += 64;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const FloatVec value = hn::Set(d, a[i]);
      low[i] = hn::MulAdd(value, b0, low[i]);
      high[i] = hn::MulAdd(value, b1, high[i]);
    }
  }
  float* c = t.c;
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, c += t.c_stride) {
      hn::StoreU(hn::Add(low[i], hn::LoadU(d, c)), d, c);
      hn::StoreU(hn::Add(high[i], hn::LoadU(d, c + n)), d, c + n);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, c += t.c_stride) {
      hn::StoreU(low[i], d, c);
      hn::StoreU(high[i], d, c + n);
    }
  }
}

template <typename T>
using RowTileFunction = void (*)(const RowTile<T>&);

template <bool kCopy, typename T, int... kRows>
HWY_INLINE RowTileFunction<T> row_tile_of(int64_t rows, std::integer_sequence<int, kRows...>) {
  static constexpr RowTileFunction<T> table[] = {row_tile<kRows + 1, kCopy, T>...};
  return table[rows - 1];
}

template <bool kCopy, typename T>
HWY_INLINE RowTileFunction<T> row_tile_function(int64_t rows) {
  return row_tile_of<kCopy, T>(rows, std::make_integer_sequence<int, kTileRows>());
}

/// Up to so many rows of an expert this is used instead of panel_product with a transposed matrix, whose
/// tiles of six rows (with 16 registers) read a line of the matrix nearly three times and more for every
/// further panel.
constexpr int64_t kFewRows = kTileRows == 6 ? 192 : 96;

/// The rows of some panels, cut into tiles.
template <typename Body>
HWY_INLINE void for_each_row_tile(const Panels& a, const Body& body) {
  for (int64_t p = 0; p < a.count(); ++p) {
    const int64_t rows = a.columns(p), tiles = num_tiles(rows);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = tile_begin(rows, tiles, t);
      body(p, begin, tile_begin(rows, tiles, t + 1) - begin);
    }
  }
}

/// row_product for the columns beyond the last whole tile, whose part of B lies in `b` with zeros on its
/// right.
HWY_INLINE void row_tile_of_edge(int64_t rows, int64_t columns, RowTile<float> t) {
  HWY_ALIGN float side[kTileRows * kPanel];
  float* c = std::exchange(t.c, side);
  const int64_t c_stride = std::exchange(t.c_stride, kPanel);
  const bool accumulate = std::exchange(t.accumulate, false);
  row_tile_function<false, float>(rows)(t);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      float& to = c[i * c_stride + j];
      to = accumulate ? side[i * kPanel + j] + to : side[i * kPanel + j];
    }
  }
}

/// C[i, j] (+)= sum_k A[k, i] B[k, j] for j < columns, where A are panels and C has a row for each token. B,
/// `b[k * b_stride + j]`, is gone through in steps of k whose rows together fit the L2 cache. What the first
/// tile reads of them it leaves for the others in a copy: lines a power of two apart do not stay in the L1
/// cache.
template <typename T>
void row_product(const Panels& a, const T* b, int64_t b_stride, int64_t columns, float* c, int64_t c_stride,
                 bool accumulate) {
  constexpr int64_t kStepFloats = int64_t{1} << (kTileRows == 6 ? 16 : 15);
  constexpr int64_t kLine = 64;
  const int64_t width = row_tile_columns();
  const int64_t depth = std::clamp<int64_t>(kStepFloats / std::max<int64_t>(columns, 1), 32, kDepth);
  Scratch scratch;
  float* copy = scratch.floats(depth * width);
  for (int64_t k0 = 0; k0 < a.features; k0 += depth) {
    const int64_t k = std::min(depth, a.features - k0);
    const auto* next = reinterpret_cast<const char*>(b + (k0 + depth) * b_stride);
    for (int64_t j = 0; j < columns; j += width, next += k * kLine) {
      const T* from = b + k0 * b_stride + j;
      const int64_t left = columns - j;
      bool copied = left < width;
      for (int64_t q = 0; copied && q < k; ++q) {
        std::fill(copy + q * width, copy + (q + 1) * width, 0.0f);
        copy_row(from + q * b_stride, left, copy + q * width);
      }
      for_each_row_tile(a, [&](int64_t panel, int64_t row, int64_t rows) {
        RowTile<float> tile = {.k = k,
                               .a = a.at(panel, k0) + row,
                               .b = copy,
                               .b_stride = width,
                               .c = c + (panel * kPanel + row) * c_stride + j,
                               .c_stride = c_stride,
                               .accumulate = accumulate || k0 > 0};
        if (left < width) return row_tile_of_edge(rows, left, tile);
        if (std::exchange(copied, true)) return row_tile_function<false, float>(rows)(tile);
        row_tile_function<true, T>(rows)({.k = k,
                                          .a = tile.a,
                                          .b = from,
                                          .b_stride = b_stride,
                                          .copy = copy,
                                          .c = tile.c,
                                          .c_stride = c_stride,
                                          .accumulate = tile.accumulate,
                                          .prefetch = next});
      });
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target

// The one inner kernel of all float32 products, C[i, j] (+)= sum_k A[i, k] B[k, j], and the copies that bring
// operands into its layouts. Compiled once for each Highway target.
//
// A is broadcast element by element, B is read as vectors, and a tile of C stays in registers over all k.
// Layouts (kPanel = 32 columns everywhere, so that all targets agree on what lies in memory):
//   panel   B as [k][32]: 32 columns, zero or unused beyond the last
//   rows    A as blocks of 32 k, [i][32] each: row i of block q begins at a + q * block_stride + 32 i.
//           A panel of activations read across is exactly such a block.
//   columns A as [k][MR], or with any other step from one k to the next: MR rows, for matrices stored with k
//           as the slow axis
//   strided A as it lies in memory with k as the fast axis: row i begins at a + i * a_step. Nothing is
//   copied,
//           which pays when few columns of B would use the copy.
#if defined(GATEWRIGHT_KERNELS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_TILE_INL_H_
#undef GATEWRIGHT_KERNELS_TILE_INL_H_
#else
#define GATEWRIGHT_KERNELS_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "gatewright/kernels/cpu/element.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kPanel = 32;  // columns of a panel
constexpr int64_t kDepth =
    512;  // k handled at once: a tile of A and the panel slice stay in the L1 and L2 caches

// Vectors of at most 16 lanes: two of them are a panel with AVX-512, four with AVX2.
using FloatTag = hn::CappedTag<float, 16>;
using FloatVec = hn::Vec<FloatTag>;
HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(FloatTag())); }

// Rows of a tile: with 32 registers, 14 x 2 sums, 2 of B and 1 of A; with 16 registers, 6 x 2.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 14;
#endif
// Layout strided: a cache set of the L1 holds as many lines when rows are 4 KB apart, and then some.
constexpr int kStridedRows = std::min(kTileRows, 10);
// Rows of a tile of three vectors, 0 where it would bring nothing: 17 to 24 tokens with 16 registers of eight
// lanes, where a third vector by itself would have too few sums for the latency of a multiply-add.
constexpr int kThreeVectorRows = HWY_TARGET == HWY_AVX2 ? 4 : 0;
constexpr int64_t kTileFloats = kTileRows * kDepth + 16;  // a copied tile of A

enum class Layout { rows, columns, strided };

/// Memory that will be read soon, brought into the L2 cache one line per k. It may lie beyond the end of what
/// there is: a prefetch never faults.
struct Prefetch {
  const char* base = nullptr;
  int64_t step = 0;        // bytes from line to line
  int64_t block_step = 0;  // bytes after 32 lines
};

struct TileArguments {
  int64_t k = 0;
  const float* a = nullptr;
  int64_t a_block_stride = 0;  // layout rows only: floats from one block of 32 k to the next
  const float* b = nullptr;
  int64_t b_stride = 0;  // floats from one k to the next
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
  Prefetch prefetch = {};
  // Layout columns: floats from one k to the next, 0 for the tile's rows. Layout strided: from row to row.
  int64_t a_step = 0;
};

template <int kRows, int kVectors, Layout kLayout>
HWY_NOINLINE void tile(const TileArguments& t) {
  const FloatTag d;
  const int64_t n = lanes();
  FloatVec sum[kRows][kVectors];
  for (auto& row : sum) {
    for (auto& v : row) v = hn::Zero(d);
  }
  const float* b = t.b;
  const char* prefetch = t.prefetch.base ? t.prefetch.base : reinterpret_cast<const char*>(b);
  const auto step = [&](const float* a, auto stride) HWY_ATTR {
    FloatVec bv[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) bv[v] = hn::LoadU(d, b + v * n);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const FloatVec av = hn::Set(d, a[i * stride]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(av, bv[v], sum[i][v]);
    }
    b += t.b_stride;
    __builtin_prefetch(prefetch, 0, 2);
    prefetch += t.prefetch.step;
  };
  if constexpr (kLayout == Layout::rows) {
    const float* block = t.a;
    int64_t left = t.k;
    const char* lines = prefetch;
    for (; left >= kPanel; left -= kPanel, block += t.a_block_stride, lines += t.prefetch.block_step) {
      prefetch = lines;
#pragma GCC unroll 4
      for (int64_t kk = 0; kk < kPanel; ++kk) step(block + kk, std::integral_constant<int64_t, kPanel>());
    }
    for (int64_t kk = 0; kk < left; ++kk) step(block + kk, std::integral_constant<int64_t, kPanel>());
  } else if constexpr (kLayout == Layout::strided) {
    for (int64_t kk = 0; kk < t.k; ++kk) step(t.a + kk, t.a_step);
  } else {
    const float* a = t.a;
    const int64_t a_step = t.a_step ? t.a_step : kRows;
#pragma GCC unroll 4
    for (int64_t kk = 0; kk < t.k; ++kk, a += a_step) step(a, std::integral_constant<int64_t, 1>());
  }
  for (int i = 0; i < kRows; ++i) {
    float* c = t.c + i * t.c_stride;
    for (int v = 0; v < kVectors; ++v) {
      if (t.accumulate) sum[i][v] = hn::Add(sum[i][v], hn::LoadU(d, c + v * n));
      hn::StoreU(sum[i][v], d, c + v * n);
    }
  }
}

using TileFunction = void (*)(const TileArguments&);

template <int kVectors, Layout kLayout, int... kRows>
HWY_INLINE TileFunction tile_of(int rows, std::integer_sequence<int, kRows...>) {
  static constexpr TileFunction table[] = {tile<kRows + 1, kVectors, kLayout>...};
  return table[rows - 1];
}

/// The tile for `rows` rows (1 to kTileRows, or kStridedRows) and one or two vectors.
template <Layout kLayout>
HWY_INLINE TileFunction tile_function(int rows, int vectors) {
  constexpr auto all = std::make_integer_sequence < int,
                 kLayout == Layout::strided ? kStridedRows : kTileRows > ();
  return vectors == 1 ? tile_of<1, kLayout>(rows, all) : tile_of<2, kLayout>(rows, all);
}

/// The tile for `rows` rows (1 to kThreeVectorRows) and three vectors.
template <Layout kLayout>
HWY_INLINE TileFunction tile_of_three_vectors(int rows) {
  return tile_of<3, kLayout>(rows, std::make_integer_sequence<int, std::max(1, kThreeVectorRows)>());
}

/// Runs tiles over the first `columns` columns of one panel-shaped B and C (whole vectors are computed).
template <Layout kLayout>
HWY_INLINE void tile_columns(int rows, int64_t columns, TileArguments t) {
  const int64_t n = lanes();
  const int64_t vectors = (columns + n - 1) / n;
  for (int64_t v = 0; v < vectors; v += 2) {
    tile_function<kLayout>(rows, vectors - v >= 2 ? 2 : 1)(t);
    t.b += 2 * n;
    t.c += 2 * n;
    t.prefetch = {};
  }
}

// --- bringing operands into layout ---

HWY_INLINE FloatVec load(FloatTag d, const float* from) { return hn::LoadU(d, from); }
HWY_INLINE FloatVec load(FloatTag d, const BFloat16* from) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  const hn::RebindToUnsigned<FloatTag> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

/// to[i] = from[i] for i in [0, count), converted to float32.
template <typename T>
HWY_INLINE void copy_row(const T* HWY_RESTRICT from, int64_t count, float* HWY_RESTRICT to) {
  const FloatTag d;
  const int64_t n = lanes();
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(load(d, from + i), d, to + i);
  for (; i < count; ++i) to[i] = to_float(from[i]);
}

/// One whole block of 32; no loop, which the compiler would turn into a call of memmove.
template <typename T>
HWY_INLINE void copy_block(const T* HWY_RESTRICT from, float* HWY_RESTRICT to) {
  const FloatTag d;
  const int64_t n = lanes();
#pragma GCC unroll 8
  for (int64_t i = 0; i < kPanel; i += 2 * n) {
    const FloatVec v0 = load(d, from + i), v1 = load(d, from + i + n);
    hn::StoreU(v0, d, to + i);
    hn::StoreU(v1, d, to + i + n);
  }
}

/// Rows of A stored with k fast, `from[i * stride + k]`, into the layout rows.
template <typename T>
void pack_rows(const T* from, int64_t stride, int rows, int64_t k, float* to) {
  for (int i = 0; i < rows; ++i) {
    const T* row = from + i * stride;
    int64_t q = 0;
    for (; q + kPanel <= k; q += kPanel) copy_block(row + q, to + q * rows + i * kPanel);
    if (q < k) copy_row(row + q, k - q, to + q * rows + i * kPanel);
  }
}

/// Rows of A stored with k slow, `from[k * stride + i]`, into the layout columns. Whole vectors are copied
/// where they stay inside the matrix: what is too much is overwritten by the next k, or lies in the 16 floats
/// that a tile has to spare.
template <typename T>
void pack_columns(const T* from, int64_t stride, int rows, int64_t k, float* to) {
  const FloatTag d;
  const int64_t n = lanes();
  const int64_t whole = (rows + n - 1) / n * n;
  const int64_t end = (k - 1) * stride + rows;
  int64_t q = 0;
  for (; q < k && q * stride + whole <= end; ++q) {
    for (int64_t i = 0; i < whole; i += n) hn::StoreU(load(d, from + q * stride + i), d, to + q * rows + i);
  }
  for (; q < k; ++q) copy_row(from + q * stride, rows, to + q * rows);
}

// Blocks of 4 x 4 are transposed in registers where the target has them: to[i * to_stride + j] = rj[i].
#if HWY_TARGET == HWY_SCALAR
template <typename T>
HWY_INLINE void transpose_quad(const T* r0, const T* r1, const T* r2, const T* r3, float* to,
                               int64_t to_stride) {
  for (int i = 0; i < 4; ++i, to += to_stride) {
    to[0] = to_float(r0[i]);
    to[1] = to_float(r1[i]);
    to[2] = to_float(r2[i]);
    to[3] = to_float(r3[i]);
  }
}
#else
using QuadTag = hn::CappedTag<float, 4>;
HWY_INLINE hn::Vec<QuadTag> load_quad(const float* from) { return hn::LoadU(QuadTag(), from); }
HWY_INLINE hn::Vec<QuadTag> load_quad(const BFloat16* from) {
  const hn::Rebind<uint16_t, QuadTag> d16;
  const hn::RebindToUnsigned<QuadTag> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(QuadTag(), hn::ShiftLeft<16>(bits));
}

template <typename T>
HWY_INLINE void transpose_quad(const T* r0, const T* r1, const T* r2, const T* r3, float* to,
                               int64_t to_stride) {
  const QuadTag d;
  const auto v0 = load_quad(r0), v1 = load_quad(r1), v2 = load_quad(r2), v3 = load_quad(r3);
  const auto t0 = hn::InterleaveLower(d, v0, v2), t1 = hn::InterleaveLower(d, v1, v3);
  const auto t2 = hn::InterleaveUpper(d, v0, v2), t3 = hn::InterleaveUpper(d, v1, v3);
  hn::StoreU(hn::InterleaveLower(d, t0, t1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, t0, t1), d, to + to_stride);
  hn::StoreU(hn::InterleaveLower(d, t2, t3), d, to + 2 * to_stride);
  hn::StoreU(hn::InterleaveUpper(d, t2, t3), d, to + 3 * to_stride);
}
#endif

/// to[k * to_stride + r] = row(r)[k] for r < rows, k < count. `row(r)` gives the start of a row.
template <typename Row>
void transpose(const Row& row, int64_t rows, int64_t count, float* to, int64_t to_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const auto *r0 = row(r), *r1 = row(r + 1), *r2 = row(r + 2), *r3 = row(r + 3);
    int64_t k = 0;
    for (; k + 4 <= count; k += 4)
      transpose_quad(r0 + k, r1 + k, r2 + k, r3 + k, to + k * to_stride + r, to_stride);
    for (; k < count; ++k) {
      for (int64_t j = 0; j < 4; ++j) to[k * to_stride + r + j] = to_float(row(r + j)[k]);
    }
  }
  for (; r < rows; ++r) {
    const auto* p = row(r);
    for (int64_t k = 0; k < count; ++k) to[k * to_stride + r] = to_float(p[k]);
  }
}

/// Rows to a panel: to[k * 32 + r] = row(r)[k] for r < rows (at most 32), zero for the other columns.
template <typename Row>
void pack_panel(const Row& row, int64_t rows, int64_t count, float* to) {
  transpose(row, rows, count, to, kPanel);
  if (rows == kPanel) return;
  for (int64_t k = 0; k < count; ++k)
    std::memset(to + k * kPanel + rows, 0, static_cast<size_t>(kPanel - rows) * sizeof(float));
}

/// A panel back to rows: to[r * stride + k] = panel[k * 32 + r] for r < rows.
HWY_INLINE void unpack_panel(const float* panel, int64_t rows, int64_t count, float* to, int64_t stride) {
  transpose([panel](int64_t k) { return panel + k * kPanel; }, count, rows, to, stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target

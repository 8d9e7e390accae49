// Products of a matrix in memory with panels of activations, panel by panel: C = W B or C = W^T B, where the
// columns of B and C are tokens. With few tokens a float32 matrix is read where it lies. Otherwise some tiles
// of it are copied (and converted, from bfloat16) just before their use into a contiguous piece of the L2
// cache, and that copy serves all panels of the call.
#if defined(GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#undef GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#else
#define GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#endif

#include <utility>

#include "gatewright/kernels/cpu/scratch.h"
#include "gatewright/kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int kGroupTiles = 8;  // tiles copied together
constexpr int64_t kPackFloats = kGroupTiles * kTileFloats;
// Up to so many tokens a float32 matrix with k fast is read in place: a copy would cost more than it saves.
// Sums have the same order either way, so that it may depend on how tokens were shared among threads.
constexpr int64_t kDirectTokens = 2 * kPanel;

/// Rows and columns of the product's left side as they lie in memory.
template <typename T>
struct Matrix {
  const T* data;
  int64_t stride;           // elements from one row in memory to the next
  bool transposed = false;  // false: A(i, k) = data[i * stride + k]; true: A(i, k) = data[k * stride + i]
};

/// Activations as consecutive panels of 32 tokens: [panels][features][32].
struct Panels {
  float* data;
  int64_t features;
  int64_t tokens;  // in all panels together; only the last may be partial
  int64_t count() const { return (tokens + kPanel - 1) / kPanel; }
  int64_t columns(int64_t panel) const { return std::min(kPanel, tokens - panel * kPanel); }
  float* at(int64_t panel, int64_t feature) const { return data + (panel * features + feature) * kPanel; }
};

/// Tiles of at most `most` rows among which `rows` split evenly.
HWY_INLINE int64_t num_tiles(int64_t rows, int64_t most = kTileRows) { return (rows + most - 1) / most; }
HWY_INLINE int64_t tile_begin(int64_t rows, int64_t tiles, int64_t index) { return rows * index / tiles; }

/// Tiles over one panel of B whose C is a row-major matrix of the caller's: beside its right edge the tile is
/// computed on the side, since tiles write whole vectors.
template <Layout kLayout>
HWY_INLINE void tile_of_matrix(int rows, int64_t columns, TileArguments t) {
  if (columns % lanes() == 0) return tile_columns<kLayout>(rows, columns, t);
  HWY_ALIGN float side[kTileRows * kPanel];
  float* c = std::exchange(t.c, side);
  const int64_t c_stride = std::exchange(t.c_stride, kPanel);
  const bool accumulate = std::exchange(t.accumulate, false);
  tile_columns<kLayout>(rows, columns, t);
  for (int i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      float& to = c[i * c_stride + j];
      to = accumulate ? to + side[i * kPanel + j] : side[i * kPanel + j];
    }
  }
}

/// What follows a tile in memory: its lines are wanted next. Rows shorter than 32 lines lie one after
/// another.
template <typename T>
HWY_INLINE Prefetch lines_of(const Matrix<T>& a, int64_t row, int64_t k) {
  const int64_t bytes = a.stride * static_cast<int64_t>(sizeof(T));
  if (a.transposed)
    return {reinterpret_cast<const char*>(a.data + k * a.stride + row), bytes, kPanel * bytes};
  constexpr int64_t kLine = 64;
  return {reinterpret_cast<const char*>(a.data + row * a.stride + k), kLine, std::max(bytes, kPanel * kLine)};
}

/// The tiles [first, last) of a matrix stored with k slow, `from[k * stride + i]` for i < rows, each to its
/// own kTileFloats of `to`. Row by row of the matrix, so that its lines are read in order. Whole vectors are
/// copied where they stay inside the matrix: what is too much is overwritten by the next k, or lies in the 16
/// floats that a tile has to spare.
template <typename T>
HWY_NOINLINE void pack_column_tiles(const T* from, int64_t stride, int64_t rows, int64_t tiles, int64_t first,
                                    int64_t last, int64_t k, float* to) {
  const FloatTag d;
  const int64_t n = lanes(), end = (k - 1) * stride + rows, count = last - first;
  int64_t begin[kGroupTiles + 1];
  for (int64_t t = 0; t <= count; ++t) begin[t] = tile_begin(rows, tiles, first + t);
  for (int64_t q = 0; q < k; ++q, from += stride) {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t height = begin[t + 1] - begin[t], whole = (height + n - 1) & -n;
      const T* row = from + begin[t];
      float* column = to + t * kTileFloats + q * height;
      if (q * stride + begin[t] + whole > end) {
        copy_row(row, height, column);
        continue;
      }
      for (int64_t i = 0; i < whole; i += n) hn::StoreU(load(d, row + i), d, column + i);
    }
  }
}

/// A panel with few tokens has most of its cache lines half empty; as [k][lanes] it fits the L1 cache.
HWY_INLINE TileArguments narrow_panel(const Panels& b, Scratch& scratch) {
  const FloatTag d;
  const int64_t n = lanes();
  TileArguments t = {.b = b.data, .b_stride = kPanel};
  if (b.tokens > n || n == kPanel) return t;
  float* narrow = scratch.floats(b.features * n);
  for (int64_t k = 0; k < b.features; ++k) hn::Store(hn::LoadU(d, b.at(0, k)), d, narrow + k * n);
  t.b = narrow;
  t.b_stride = n;
  return t;
}

/// C[i, :] (+)= sum_k A(i, k) B[k, :] with a matrix that is not transposed read where it lies. It is gone
/// through row by row, in the order of memory, so that the next lines can be fetched in time.
inline HWY_NOINLINE void direct_product(const Matrix<float>& a, int64_t first_row, int64_t last_row,
                                        const Panels& b, const Panels& c, bool accumulate) {
  const int64_t rows = last_row - first_row;
  const bool three = kThreeVectorRows > 0 && (b.tokens + lanes() - 1) / lanes() == 3;
  const int64_t tiles = num_tiles(rows, three ? kThreeVectorRows : kStridedRows);
  Scratch scratch;
  const TileArguments all = narrow_panel(b, scratch);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = first_row + tile_begin(rows, tiles, t);
    const int64_t end = first_row + tile_begin(rows, tiles, t + 1);
    for (int64_t k0 = 0; k0 < b.features; k0 += kDepth) {
      TileArguments x = all;
      x.k = std::min(kDepth, b.features - k0);
      x.a = a.data + row * a.stride + k0;
      x.a_step = a.stride;
      x.c_stride = kPanel;
      x.accumulate = accumulate || k0 > 0;
      x.prefetch = lines_of(a, end, k0);
      for (int64_t p = 0; p < b.count(); ++p, x.prefetch = {}) {
        x.b = all.b + (p * b.features + k0) * all.b_stride;
        x.c = c.at(p, row);
        if (three) {
          tile_of_three_vectors<Layout::strided>(static_cast<int>(end - row))(x);
        } else {
          tile_columns<Layout::strided>(static_cast<int>(end - row), b.columns(p), x);
        }
      }
    }
  }
}

/// C[i, :] (+)= sum_k A(i, k) B[k, :] for i in [first_row, last_row). A's k runs over B.features.
/// scratch: kPackFloats floats.
template <typename T>
void panel_product(const Matrix<T>& a, int64_t first_row, int64_t last_row, const Panels& b, const Panels& c,
                   bool accumulate, float* scratch) {
  if constexpr (std::is_same_v<T, float>) {
    if (!a.transposed && b.tokens <= kDirectTokens)
      return direct_product(a, first_row, last_row, b, c, accumulate);
  }
  const int64_t rows = last_row - first_row, tiles = num_tiles(rows), width = 2 * lanes();
  const auto begin = [&](int64_t t) { return tile_begin(rows, tiles, t); };
  const auto height = [&](int64_t t) { return static_cast<int>(begin(t + 1) - begin(t)); };
  // What will be copied next, as far as tile t of the group that begins at g can bring it into the L2 cache.
  const auto next_lines = [&](int64_t g, int64_t t, int64_t k0) -> Prefetch {
    if (t + kGroupTiles < tiles) return lines_of(a, first_row + begin(t + kGroupTiles), k0);
    if (k0 + kDepth < b.features) return lines_of(a, first_row + begin(t - g), k0 + kDepth);
    return {};
  };
  for (int64_t k0 = 0; k0 < b.features; k0 += kDepth) {
    const int64_t depth = std::min(kDepth, b.features - k0);
    for (int64_t g = 0; g < tiles; g += kGroupTiles) {
      const int64_t g_end = std::min(tiles, g + kGroupTiles);
      if (a.transposed) {
        pack_column_tiles(a.data + k0 * a.stride + first_row, a.stride, rows, tiles, g, g_end, depth,
                          scratch);
      } else {
        for (int64_t t = g; t < g_end; ++t)
          pack_rows(a.data + (first_row + begin(t)) * a.stride + k0, a.stride, height(t), depth,
                    scratch + (t - g) * kTileFloats);
      }
      // Two vectors of a panel stay in the L1 cache while the copied tiles come from the L2 cache.
      for (int64_t column = 0; column < b.tokens; column += width) {
        const int64_t p = column / kPanel, v = column % kPanel;
        for (int64_t t = g; t < g_end; ++t) {
          const TileArguments arguments = {.k = depth,
                                           .a = scratch + (t - g) * kTileFloats,
                                           .a_block_stride = height(t) * kPanel,
                                           .b = b.at(p, k0) + v,
                                           .b_stride = kPanel,
                                           .c = c.at(p, first_row + begin(t)) + v,
                                           .c_stride = kPanel,
                                           .accumulate = accumulate || k0 > 0,
                                           .prefetch = column == 0 ? next_lines(g, t, k0) : Prefetch{}};
          const int64_t columns = std::min(width, b.tokens - column);
          if (a.transposed) {
            tile_columns<Layout::columns>(height(t), columns, arguments);
          } else {
            tile_columns<Layout::rows>(height(t), columns, arguments);
          }
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target

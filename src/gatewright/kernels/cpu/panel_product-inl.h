// Products of a matrix in memory with panels of activations, panel by panel: C = W B or C = W^T B, where the
// columns of B and C are tokens. The matrix is copied once, a tile at a time and just before its use, into a
// contiguous piece of the L1 or L2 cache, and that copy serves all panels of the call.
#if defined(GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#undef GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#else
#define GATEWRIGHT_KERNELS_PANEL_PRODUCT_INL_H_
#endif

#include "gatewright/kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int kGroupTiles = 8;  // tiles copied together from a matrix that is read across its rows
constexpr int64_t kPackFloats = int64_t{kGroupTiles} * kTileRows * kDepth + 16;

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

/// Rows per tile such that `rows` splits evenly into as few tiles as possible.
HWY_INLINE int64_t num_tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
HWY_INLINE int64_t tile_begin(int64_t rows, int64_t tiles, int64_t index) { return rows * index / tiles; }

template <typename T>
HWY_INLINE Prefetch lines_of(const Matrix<T>& a, int64_t row, int64_t k) {
  const int64_t offset = a.transposed ? k * a.stride + row : row * a.stride + k;
  return {reinterpret_cast<const char*>(a.data + offset),
          a.transposed ? a.stride * static_cast<int64_t>(sizeof(T)) : int64_t{64}};
}

/// C[i, :] (+)= sum_k A(i, k) B[k, :] for i in [first_row, last_row). A's k runs over B.features.
/// scratch: kPackFloats floats.
template <typename T>
void panel_product(const Matrix<T>& a, int64_t first_row, int64_t last_row, const Panels& b, const Panels& c,
                   bool accumulate, float* scratch) {
  const int64_t rows = last_row - first_row;
  const int64_t tiles = num_tiles(rows);
  const int64_t group = a.transposed ? kGroupTiles : 1;
  for (int64_t k0 = 0; k0 < b.features; k0 += kDepth) {
    const int64_t depth = std::min(kDepth, b.features - k0);
    for (int64_t g = 0; g < tiles; g += group) {
      const int64_t g_end = std::min(tiles, g + group);
      for (int64_t t = g; t < g_end; ++t) {
        const int64_t row = tile_begin(rows, tiles, t);
        const int count = static_cast<int>(tile_begin(rows, tiles, t + 1) - row);
        float* to = scratch + (t - g) * kTileRows * kDepth;
        if (a.transposed) {
          pack_columns(a.data + k0 * a.stride + first_row + row, a.stride, count, depth, to);
        } else {
          pack_rows(a.data + (first_row + row) * a.stride + k0, a.stride, count, depth, to);
        }
      }
      for (int64_t t = g; t < g_end; ++t) {
        const int64_t row = tile_begin(rows, tiles, t);
        const int count = static_cast<int>(tile_begin(rows, tiles, t + 1) - row);
        const int64_t next = tile_begin(rows, tiles, std::min(tiles - 1, t + group));
        Prefetch prefetch = lines_of(a, first_row + next, k0);
        for (int64_t p = 0; p < b.count(); ++p, prefetch = {}) {
          const TileArguments arguments = {.k = depth,
                                           .a = scratch + (t - g) * kTileRows * kDepth,
                                           .a_block_stride = count * kPanel,
                                           .b = b.at(p, k0),
                                           .b_stride = kPanel,
                                           .c = c.at(p, first_row + row),
                                           .c_stride = kPanel,
                                           .accumulate = accumulate || k0 > 0,
                                           .prefetch = prefetch};
          if (a.transposed) {
            tile_columns<false>(count, b.columns(p), arguments);
          } else {
            tile_columns<true>(count, b.columns(p), arguments);
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

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
constexpr int64_t kPackFloats = kGroupTiles * kTileFloats;

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
      const int64_t group_begin = tile_begin(rows, tiles, g), group_end = tile_begin(rows, tiles, g_end);
      const auto height = [&](int64_t t) {
        return static_cast<int>(tile_begin(rows, tiles, t + 1) - tile_begin(rows, tiles, t));
      };
      for (int64_t t = g; t < g_end; ++t) {
        const int64_t row = first_row + tile_begin(rows, tiles, t);
        float* to = scratch + (t - g) * kTileFloats;
        if (a.transposed) {
          pack_columns(a.data + k0 * a.stride + row, a.stride, height(t), depth, to);
        } else {
          pack_rows(a.data + row * a.stride + k0, a.stride, height(t), depth, to);
        }
      }
      for (int64_t t = g; t < g_end; ++t) {
        const int64_t row = first_row + tile_begin(rows, tiles, t);
        Prefetch prefetch = lines_of(a, row + group_end - group_begin, k0);
        for (int64_t p = 0; p < b.count(); ++p, prefetch = {}) {
          const TileArguments arguments = {.k = depth,
                                           .a = scratch + (t - g) * kTileFloats,
                                           .a_block_stride = height(t) * kPanel,
                                           .b = b.at(p, k0),
                                           .b_stride = kPanel,
                                           .c = c.at(p, row),
                                           .c_stride = kPanel,
                                           .accumulate = accumulate || k0 > 0,
                                           .prefetch = prefetch};
          if (a.transposed) {
            tile_columns<false>(height(t), b.columns(p), arguments);
          } else {
            tile_columns<true>(height(t), b.columns(p), arguments);
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

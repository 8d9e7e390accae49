#include "gatewright/kernels/cpu/gemm.h"

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/gemm.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "gatewright/kernels/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kSlabFloats = int64_t{1} << 20;  // of B held as panels at once

struct Gemm {
  int64_t m, n, k;
  Matrix<float> a, b;  // b.transposed: B(q, j) = b.data[j * b.stride + q]
  float* c;
  int64_t ldc;
  bool accumulate;
};

/// Columns [j, j + 32) of B, all k, as one panel.
void pack_panel_of(const Gemm& g, int64_t j, float* panel) {
  const int64_t columns = std::min(kPanel, g.n - j);
  if (g.b.transposed)
    return pack_panel([&](int64_t r) { return g.b.data + (j + r) * g.b.stride; }, columns, g.k, panel);
  for (int64_t q = 0; q < g.k; ++q, panel += kPanel) {
    const float* row = g.b.data + q * g.b.stride + j;
    if (columns == kPanel) {
      copy_block(row, panel);
    } else {
      copy_row(row, columns, panel);
      std::fill(panel + columns, panel + kPanel, 0.0f);
    }
  }
}

/// Row tiles [first, last) of `tiles` times the panels of the columns [j0, j0 + 32 panels).
void multiply_tiles(const Gemm& g, const float* slab, int64_t j0, int64_t panels, int64_t tiles,
                    int64_t first, int64_t last) {
  Scratch scratch;
  float* pack = scratch.floats(kTileFloats);
  for (int64_t k0 = 0; k0 < g.k; k0 += kDepth) {
    const int64_t depth = std::min(kDepth, g.k - k0);
    for (int64_t t = first; t < last; ++t) {
      const int64_t row = tile_begin(g.m, tiles, t), end = tile_begin(g.m, tiles, t + 1);
      const auto rows = static_cast<int>(end - row);
      if (g.a.transposed) {
        pack_columns(g.a.data + k0 * g.a.stride + row, g.a.stride, rows, depth, pack);
      } else {
        pack_rows(g.a.data + row * g.a.stride + k0, g.a.stride, rows, depth, pack);
      }
      Prefetch prefetch = lines_of(g.a, end, k0);
      for (int64_t p = 0; p < panels; ++p, prefetch = {}) {
        const int64_t j = j0 + p * kPanel, columns = std::min(kPanel, g.n - j);
        const TileArguments arguments = {.k = depth,
                                         .a = pack,
                                         .a_block_stride = rows * kPanel,
                                         .b = slab + (p * g.k + k0) * kPanel,
                                         .b_stride = kPanel,
                                         .c = g.c + row * g.ldc + j,
                                         .c_stride = g.ldc,
                                         .accumulate = g.accumulate || k0 > 0,
                                         .prefetch = prefetch};
        if (g.a.transposed) {
          tile_of_matrix<Layout::columns>(rows, columns, arguments);
        } else {
          tile_of_matrix<Layout::rows>(rows, columns, arguments);
        }
      }
    }
  }
}

void gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, bool a_transposed, const float* b,
          int64_t ldb, bool b_transposed, float* c, int64_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; ++i) std::fill(c + i * ldc, c + i * ldc + n, 0.0f);
    return;
  }
  const Gemm g = {m, n, k, {a, lda, a_transposed}, {b, ldb, b_transposed}, c, ldc, accumulate};
  const int64_t tiles = num_tiles(m), all = (n + kPanel - 1) / kPanel;
  const int64_t held = std::clamp<int64_t>(kSlabFloats / (k * kPanel), 1, all);
  Scratch scratch;
  float* slab = scratch.floats(held * k * kPanel);
  for (int64_t p0 = 0; p0 < all; p0 += held) {
    const int64_t panels = std::min(held, all - p0);
    parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) pack_panel_of(g, (p0 + p) * kPanel, slab + p * k * kPanel);
    });
    parallel_for(0, tiles, 1, [&](int64_t first, int64_t last) {
      multiply_tiles(g, slab, p0 * kPanel, panels, tiles, first, last);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(gemm);

void gemm_nt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(gemm)(m, n, k, a, lda, false, b, ldb, true, c, ldc, accumulate);
}
void gemm_nn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(gemm)(m, n, k, a, lda, false, b, ldb, false, c, ldc, accumulate);
}
void gemm_tn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(gemm)(m, n, k, a, lda, true, b, ldb, false, c, ldc, accumulate);
}

}  // namespace gatewright::kernels
#endif

#include "gatewright/kernels/cpu/gemm.h"

#include "gatewright/kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/gemm.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "gatewright/kernels/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kSlabPanels = 8;  // panels of B held at once

/// B's columns [j0, j0 + 256) and k [k0, k0 + depth) as panels.
void pack_slab(const float* b, int64_t ldb, bool b_transposed, int64_t k0, const Panels& to) {
  for (int64_t p = 0; p < to.count(); ++p) {
    const int64_t j = p * kPanel;
    float* panel = to.at(p, 0);
    if (b_transposed) {
      pack_panel([&](int64_t r) { return b + (j + r) * ldb + k0; }, to.columns(p), to.features, panel);
      continue;
    }
    for (int64_t q = 0; q < to.features; ++q) {
      copy_row(b + (k0 + q) * ldb + j, to.columns(p), panel + q * kPanel);
      std::fill(panel + q * kPanel + to.columns(p), panel + (q + 1) * kPanel, 0.0f);
    }
  }
}

void copy_out(const Panels& from, int64_t m, float* c, int64_t ldc, bool accumulate) {
  for (int64_t p = 0; p < from.count(); ++p) {
    for (int64_t i = 0; i < m; ++i) {
      const float* in = from.at(p, i);
      float* out = c + i * ldc + p * kPanel;
      for (int64_t j = 0; j < from.columns(p); ++j) out[j] = accumulate ? out[j] + in[j] : in[j];
    }
  }
}

void gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, bool a_transposed, const float* b,
          int64_t ldb, bool b_transposed, float* c, int64_t ldc, bool accumulate) {
  constexpr int64_t kRowBlock = 256;
  Scratch scratch;
  float* pack = scratch.floats(kPackFloats);
  float* slab = scratch.floats(kSlabPanels * kPanel * kDepth);
  float* block = scratch.floats(kSlabPanels * kPanel * kRowBlock);
  if (k == 0 && !accumulate) {
    for (int64_t i = 0; i < m; ++i) std::fill(c + i * ldc, c + i * ldc + n, 0.0f);
  }
  for (int64_t j0 = 0; j0 < n; j0 += kSlabPanels * kPanel) {
    const int64_t columns = std::min(kSlabPanels * kPanel, n - j0);
    for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
      const Panels panels = {.data = slab, .features = std::min(kDepth, k - k0), .tokens = columns};
      pack_slab(b_transposed ? b + j0 * ldb : b + j0, ldb, b_transposed, k0, panels);
      for (int64_t i0 = 0; i0 < m; i0 += kRowBlock) {
        const Panels out = {.data = block, .features = std::min(kRowBlock, m - i0), .tokens = columns};
        const Matrix<float> left = {.data = a_transposed ? a + k0 * lda + i0 : a + i0 * lda + k0,
                                    .stride = lda,
                                    .transposed = a_transposed};
        panel_product(left, 0, out.features, panels, out, false, pack);
        copy_out(out, out.features, c + i0 * ldc + j0, ldc, accumulate || k0 > 0);
      }
    }
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

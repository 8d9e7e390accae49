// One float32 matrix product on strided views, on all threads (inside a parallel loop, on the calling one):
// for linear maps of many rows, as fast as OpenBLAS where that knows the processor and much faster where it
// does not.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// C [m, n] = A [m, k] B [n, k]^T, added to C when `accumulate`. Row-major; lda, ldb, ldc are the floats from
/// one row in memory to the next. With k = 0 the product is zero. Not a number propagates as in the plain
/// triple loop; sums are taken in another order than there, the same
/// for any number of threads.
void gemm_nt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate);
/// C [m, n] = A [m, k] B [k, n].
void gemm_nn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate);
/// C [m, n] = A [k, m]^T B [k, n].
void gemm_tn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
             float* c, int64_t ldc, bool accumulate);

}  // namespace gatewright::kernels

#include "gatewright/kernels/cpu/packed_gemm.h"

#include <algorithm>

#include "gatewright/base/parallel.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/kernels/cpu/gemm.h"
#include "gatewright/kernels/cpu/packed_dot.h"
#include "gatewright/kernels/cpu/scratch.h"

namespace gatewright::kernels {
namespace {

constexpr int64_t kFewRows = 8;  // of a: a row of b is multiplied as it is unpacked, never stored
constexpr int64_t kBlockFloats = int64_t{1} << 17;  // of b unpacked at once, in a thread's own cache
constexpr int64_t kFewestRowsAtOnce = 32;

int64_t row_bytes(const PackedRows& b) { return b.columns / block_elements(b.type) * block_bytes(b.type); }

void unpack_rows(const PackedRows& b, int64_t first, int64_t count, float* out) {
  unpack(b.type, {b.data + first * row_bytes(b), static_cast<size_t>(count * row_bytes(b))},
         {out, static_cast<size_t>(count * b.columns)});
}

int64_t rows_at_once(const PackedRows& b) {
  return std::max(kFewestRowsAtOnce,
                  kBlockFloats / std::max<int64_t>(b.columns, 1) / kFewestRowsAtOnce * kFewestRowsAtOnce);
}

}  // namespace

void packed_gemm_nt(int64_t m, const float* a, const PackedRows& b, float* c) {
  if (m == 0) return;
  if (m <= kFewRows && has_packed_dot(b.type)) {
    return parallel_for(0, b.rows, 16,
                        [&](int64_t begin, int64_t end) { packed_dot(m, a, b, begin, end, c); });
  }
  const int64_t block = rows_at_once(b), blocks = (b.rows + block - 1) / block;
  parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    float* rows = scratch.floats(block * b.columns);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * block, count = std::min(block, b.rows - first);
      unpack_rows(b, first, count, rows);
      gemm_nt(m, count, b.columns, a, b.columns, rows, b.columns, c + first, b.rows, false);
    }
  });
}

void packed_gemm_nn(int64_t m, const float* a, const PackedRows& b, float* c) {
  const int64_t block = rows_at_once(b);
  Scratch scratch;
  float* rows = scratch.floats(block * b.columns);
  for (int64_t first = 0; first < b.rows; first += block) {
    const int64_t count = std::min(block, b.rows - first);
    parallel_for(0, count, 4, [&](int64_t begin, int64_t end) {
      unpack_rows(b, first + begin, end - begin, rows + begin * b.columns);
    });
    gemm_nn(m, b.columns, count, a + first, b.rows, rows, b.columns, c, b.columns, first > 0);
  }
}

}  // namespace gatewright::kernels

// Products with a matrix in a packed type (formats/block_types.h), a block of rows of which is unpacked at a
// time, so that it is never in memory as a whole.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gatewright/formats/tensor_view.h"

namespace gatewright::kernels {

/// Rows that follow each other in memory; columns are whole blocks of the type.
struct PackedRows {
  DataType type = DataType::kF32;
  int64_t rows = 0, columns = 0;
  const std::byte* data = nullptr;
};

/// c [m, b.rows] = a [m, b.columns] b^T; all contiguous, float32. The same sums in any number of threads, and
/// up to m = 8 a row's are those it has alone.
void packed_gemm_nt(int64_t m, const float* a, const PackedRows& b, float* c);
/// c [m, b.columns] = a [m, b.rows] b.
void packed_gemm_nn(int64_t m, const float* a, const PackedRows& b, float* c);

}  // namespace gatewright::kernels

// Products of a few rows with a matrix in a packed type: each weight is unpacked in registers and multiplied
// at once, so that decoding reads a weight's packed bytes and writes nothing but sums.
#pragma once

#include <cstdint>

#include "gatewright/kernels/cpu/packed_gemm.h"

namespace gatewright::kernels {

/// Whether packed_dot knows the type: all packed ones, F32, F16 and BF16.
bool has_packed_dot(DataType type);

/// c[i * b.rows + r] = row i of a [m, b.columns] times row r of b, for r in [begin, end). A sum's bits depend
/// on nothing but its two rows.
void packed_dot(int64_t m, const float* a, const PackedRows& b, int64_t begin, int64_t end, float* c);

}  // namespace gatewright::kernels

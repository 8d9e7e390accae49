// What the bytes of a tensor stand for: plain types, and the packed ones of GGUF, blocks of 32 or 256 values
// that share scales. Layouts and rules are those of ggml.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// The values of whole blocks, exact to the last bit of float32 (plain 64-bit types are rounded). Fails
/// unless `values` are whole blocks of the type and `blocks` has exactly their bytes.
void unpack(DataType type, std::span<const std::byte> blocks, std::span<float> values);

/// Whether pack() writes the type: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K.
bool can_pack(DataType type);

/// Rounds rows [rows, row_length] to the type, row by row into `out`. Searches scales that give a small sum
/// of importance x (value - rounded)^2; `importance` [row_length] holds for every row, empty stands for ones.
/// Fails on a type that it does not write, rows that are no whole blocks, values that are not finite (for
/// packed types) and values too large for the type.
void pack(DataType type, std::span<const float> rows, int64_t row_length, std::span<const float> importance,
          std::span<std::byte> out);

}  // namespace gatewright

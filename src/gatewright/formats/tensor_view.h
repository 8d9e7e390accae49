// Where a tensor of a file lies: name, type, shape, bytes. No ownership.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

/// The plain types of safetensors, then the packed ones of GGUF: blocks of 32 or 256 neighbours of a row that
/// share scales.
enum class DataType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kMXFP4,
};

/// Whether values share a block.
bool is_packed(DataType type);
/// Values in a block, 1 for plain types.
int64_t block_elements(DataType type);
/// Bytes of a block, for plain types of a value.
int64_t block_bytes(DataType type);
/// Bytes of a whole tensor. Fails, naming `what`, when a dimension is negative, the size does not fit 63
/// bits, or a row (the last axis) is not whole blocks.
int64_t tensor_bytes(DataType type, std::span<const int64_t> shape, std::string_view what);

/// "F32", "BF16", "Q4_K", ... as safetensors and GGUF spell it.
std::string_view data_type_name(DataType type);
/// The reverse, whatever the case.
std::optional<DataType> parse_data_type(std::string_view name);

struct TensorView {
  std::string name;
  DataType dtype = DataType::kF32;
  std::vector<int64_t> shape;  // the last axis is contiguous, as PyTorch has it (GGUF lists it the other way)
  std::span<const std::byte> data;
};

}  // namespace gatewright

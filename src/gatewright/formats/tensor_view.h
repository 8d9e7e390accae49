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

enum class DataType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

/// Bytes of one element.
int64_t element_size(DataType type);
/// "F32", "BF16", ... as safetensors spells it.
std::string_view data_type_name(DataType type);
std::optional<DataType> parse_data_type(std::string_view name);

struct TensorView {
  std::string name;
  DataType dtype = DataType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

}  // namespace gatewright

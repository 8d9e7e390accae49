#include "gatewright/models/families/random_source.h"

#include <cmath>
#include <cstring>

#include "gatewright/base/random.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/quantize_rules.h"

namespace gatewright {
namespace {

constexpr int64_t kPoolRows = 256;

/// Vectors, and what decides about experts.
bool is_plain(const ModelTensor& t) {
  return t.shape.size() == 1 || t.name.ends_with(".bias") || t.name.ends_with("mlp.gate.weight") ||
         t.name.ends_with("shared_expert_gate.weight");
}

size_t bytes_of_row(DataType type, int64_t columns) {
  return static_cast<size_t>(columns / block_elements(type) * block_bytes(type));
}

}  // namespace

RandomSource::RandomSource(Architecture architecture, DataType type)
    : architecture_(std::move(architecture)), type_(type), tensors_(model_tensors(architecture_)) {
  for (const ModelTensor& t : tensors_) {
    if (!is_plain(t) && !pools_.contains(t.columns()))
      pools_[t.columns()] = make_pool(t.columns(), fitting_type(type, t.columns()));
  }
}

RandomSource::Pool RandomSource::make_pool(int64_t columns, DataType type) {
  RandomStream random(static_cast<uint64_t>(columns), "pool");
  std::vector<float> values(static_cast<size_t>(kPoolRows * columns));
  const float scale = 1 / std::sqrt(static_cast<float>(columns));
  for (float& x : values) x = scale * random.normal();
  Pool pool(kPoolRows * bytes_of_row(type, columns));
  pack(type, values, columns, {}, pool);
  return pool;
}

DataType RandomSource::type_of(const ModelTensor& tensor) const {
  return is_plain(tensor) ? DataType::kF32 : fitting_type(type_, tensor.columns());
}

std::span<const std::byte> RandomSource::rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                              std::vector<std::byte>& storage) const {
  const size_t bytes = bytes_of_row(type_of(tensor), tensor.columns());
  storage.resize(static_cast<size_t>(count) * bytes);
  if (is_plain(tensor)) {
    const bool is_norm = tensor.name.find("norm") != std::string::npos;
    RandomStream random(static_cast<uint64_t>(first), tensor.name);
    const float scale = 1 / std::sqrt(static_cast<float>(architecture_.hidden_size));
    for (size_t i = 0; i < storage.size(); i += sizeof(float)) {
      const float value = is_norm ? 1.0F : scale * random.normal();
      std::memcpy(storage.data() + i, &value, sizeof value);
    }
    return storage;
  }
  const Pool& pool = pools_.at(tensor.columns());
  RandomStream random(static_cast<uint64_t>(first), tensor.name);
  for (int64_t r = 0; r < count; ++r)
    std::memcpy(storage.data() + static_cast<size_t>(r) * bytes,
                pool.data() + random.next_u32() % kPoolRows * bytes, bytes);
  return storage;
}

}  // namespace gatewright

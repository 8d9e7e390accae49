#include "gatewright/train/packed_tensors.h"

#include <algorithm>

namespace gatewright {
namespace {

Tensor tensor_of(const std::vector<int32_t>& values, const PackedBatch& packed, at::ScalarType type,
                 at::Device device) {
  const Tensor plain =
      at::tensor(at::ArrayRef<int32_t>(values), at::kInt).view({packed.sequences, packed.length});
  return plain.to(device, type);
}

}  // namespace

Batch to_batch(const PackedBatch& packed, at::Device device) {
  const Tensor targets = tensor_of(packed.targets, packed, at::kLong, device);
  const bool filled = std::ranges::any_of(packed.targets, [](int32_t target) { return target < 0; });
  return {.tokens = tensor_of(packed.tokens, packed, at::kLong, device),
          .targets = targets,
          .first_key = tensor_of(packed.first_key, packed, at::kInt, device),
          .real = filled ? targets >= 0 : Tensor()};
}

}  // namespace gatewright

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

std::vector<Batch> batches_without_filling(const PackedBatch& packed, at::Device device) {
  const Batch all = to_batch(packed, device);
  if (!all.real.defined()) return {all};
  const Tensor lengths = all.real.sum(1).to(at::kCPU);
  const auto part = [&](int64_t first, int64_t rows, int64_t length) {
    const auto cut = [&](const Tensor& t) {
      return t.narrow(0, first, rows).narrow(1, 0, length).contiguous();
    };
    return Batch{
        .tokens = cut(all.tokens), .targets = cut(all.targets), .first_key = cut(all.first_key), .real = {}};
  };
  std::vector<Batch> batches;
  int64_t full = 0;  // sequences before this one that are not in a batch yet
  for (int64_t row = 0; row <= packed.sequences; ++row) {
    const int64_t length = row < packed.sequences ? lengths[row].item<int64_t>() : 0;
    if (length == packed.length) {
      ++full;
      continue;
    }
    if (full > 0) batches.push_back(part(row - full, full, packed.length));
    if (length > 0) batches.push_back(part(row, 1, length));
    full = 0;
  }
  return batches;
}

}  // namespace gatewright

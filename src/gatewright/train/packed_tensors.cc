#include "gatewright/train/packed_tensors.h"

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
  return {.tokens = tensor_of(packed.tokens, packed, at::kLong, device),
          .targets = tensor_of(packed.targets, packed, at::kLong, device),
          .first_key = tensor_of(packed.first_key, packed, at::kInt, device)};
}

std::vector<int32_t> token_byte_lengths(const Tokenizer& tokenizer) {
  std::vector<int32_t> lengths(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t id = 0; id < lengths.size(); ++id)
    lengths[id] = static_cast<int32_t>(tokenizer.token_bytes(static_cast<int32_t>(id)).size());
  if (const auto end = tokenizer.end_of_text()) lengths[static_cast<size_t>(*end)] = 0;
  return lengths;
}

TokenizerFacts facts_of(const Tokenizer& tokenizer) {
  return {.fingerprint = tokenizer.fingerprint(),
          .vocab_size = tokenizer.vocab_size(),
          .end_of_text = tokenizer.end_of_text()};
}

}  // namespace gatewright

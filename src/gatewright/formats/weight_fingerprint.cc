#include "gatewright/formats/weight_fingerprint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "gatewright/base/hash.h"

namespace gatewright {
namespace {

constexpr size_t kPieces = 64, kPieceBytes = 1024;

uint64_t hash_of(std::span<const std::byte> bytes) {
  return hash_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

uint64_t sampled_hash(std::span<const std::byte> bytes) {
  if (bytes.size() <= kPieces * kPieceBytes) return hash_of(bytes);
  const size_t last = bytes.size() - kPieceBytes;
  uint64_t hash = 0;
  for (size_t i = 0; i < kPieces; ++i)
    hash = mix_hash(hash, hash_of(bytes.subspan(last / (kPieces - 1) * i, kPieceBytes)));
  return mix_hash(hash, hash_of(bytes.subspan(last)));
}

}  // namespace

std::string weight_fingerprint(const std::map<std::string, TensorView>& tensors) {
  std::string lines;
  for (const auto& [name, view] : tensors)
    lines += fmt::format("{} {} [{}] {:016x}\n", name, data_type_name(view.dtype), fmt::join(view.shape, ","),
                         sampled_hash(view.data));
  return hash128(lines).hex();
}

}  // namespace gatewright

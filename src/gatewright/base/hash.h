// Content hashes (XXH3): equal content, equal key. Not for security.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gatewright {

uint64_t hash_bytes(std::string_view bytes);
uint64_t mix_hash(uint64_t a, uint64_t b);

struct Hash128 {
  uint64_t low = 0, high = 0;
  auto operator<=>(const Hash128&) const = default;
  /// 32 hexadecimal digits.
  std::string hex() const;
};
Hash128 hash128(std::string_view bytes);

}  // namespace gatewright

#include "gatewright/base/random.h"

#include <cmath>
#include <numbers>

#include "gatewright/base/hash.h"

namespace gatewright {
namespace {

struct Philox {
  uint32_t word[4];
};

Philox philox(uint64_t counter, uint64_t key) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
    c[1] = static_cast<uint32_t>(p1);
    c[3] = static_cast<uint32_t>(p0);
    c[0] = n0;
    c[2] = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view name) : key_(mix_hash(seed, hash_bytes(name))) {}

uint32_t RandomStream::next_u32() {
  const uint64_t block = position_ / 4;
  if (block != block_) {
    const Philox p = philox(block, key_);
    for (int i = 0; i < 4; ++i) words_[i] = p.word[i];
    block_ = block;
  }
  return words_[position_++ % 4];
}

uint64_t RandomStream::next_u64() {
  const uint64_t high = next_u32();
  return high << 32 | next_u32();
}

float RandomStream::uniform() { return static_cast<float>(next_u32() >> 8) * 0x1p-24f; }

double RandomStream::uniform_double() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

float RandomStream::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_double()));
  return static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * uniform_double()));
}

uint64_t RandomStream::below(uint64_t n) {
  const uint64_t threshold = (0 - n) % n;  // 2^64 mod n: values under it would favour small results
  uint64_t x = next_u64();
  while (x < threshold) x = next_u64();
  return x % n;
}

}  // namespace gatewright

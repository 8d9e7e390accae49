// A token cache of any bytes is refused, or everything in it can be read and packed. The input's checksums
// are made to fit, so that the checks behind them are reached; the first byte says how to begin: with a sound
// header or not.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "gatewright/base/error.h"
#include "gatewright/text/token_cache_format.h"

namespace {

using namespace gatewright;

/// Magic, version and sizes that fit the bytes behind the header as well as they can.
void make_plausible(std::string& file) {
  CacheHeader header;
  if (file.size() < sizeof header) return;
  std::memcpy(&header, file.data(), sizeof header);
  std::memcpy(header.magic, kCacheMagic.data(), sizeof header.magic);
  header.version = kCacheVersion;
  header.documents %= 16;
  header.tokens %= 256;
  header.name_bytes %= 64;
  header.domains %= 8;
  header.token_width = header.token_width % 2 == 0 ? 2 : 4;
  const auto padded = [](uint64_t size) { return (size + 7) / 8 * 8; };
  file.resize(sizeof header + 8 * (2 * header.documents + 1) + padded(4 * header.documents) +
              padded(header.name_bytes) + padded(header.token_width * header.tokens));
  std::memcpy(file.data(), &header, sizeof header);
}

void read_everything(const CacheLayout& cache) {
  const CacheHeader& header = cache.header;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < header.documents; ++i) {
    if (cache.begin[i] >= cache.begin[i + 1] || cache.begin[i + 1] > header.tokens) std::abort();
    if (cache.names.at(cache.domain[i]).empty()) std::abort();
    sum += cache.bytes[i];
  }
  for (uint64_t i = 0; i < header.tokens; ++i) {
    uint32_t id = 0;
    std::memcpy(&id, cache.tokens.data() + i * header.token_width, header.token_width);
    if (id >= header.vocab_size) std::abort();
  }
  if (sum > static_cast<uint64_t>(INT64_MAX)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 != 0) make_plausible(file);
  if (data[0] % 4 != 1) seal_cache(file);
  try {
    read_everything(read_cache(std::as_bytes(std::span(file)), "input"));
  } catch (const Error&) {
  }
  return 0;
}

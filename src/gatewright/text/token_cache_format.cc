#include "gatewright/text/token_cache_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "gatewright/base/checked.h"
#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

static_assert(std::endian::native == std::endian::little, "caches are little-endian and mapped as they are");
static_assert(sizeof(CacheHeader) == 96);

constexpr uint64_t padded(uint64_t size) { return (size + 7) & ~uint64_t{7}; }

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Where the sections begin, for a header whose counts were bounded by the size of the file.
struct Offsets {
  uint64_t begin, bytes, domain, names, tokens, end;
};

Offsets offsets_of(const CacheHeader& header) {
  Offsets at = {};
  at.begin = sizeof(CacheHeader);
  at.bytes = at.begin + 8 * (header.documents + 1);
  at.domain = at.bytes + 8 * header.documents;
  at.names = at.domain + padded(4 * header.documents);
  at.tokens = at.names + padded(header.name_bytes);
  at.end = at.tokens + padded(header.token_width * header.tokens);
  return at;
}

/// No count claims more than the file could hold: after this, offsets can't wrap.
bool counts_fit(const CacheHeader& header, uint64_t size) {
  return (header.token_width == 2 || header.token_width == 4) && header.documents <= size / 8 &&
         header.tokens <= size / header.token_width && header.name_bytes <= size &&
         header.domains <= size / 4 && offsets_of(header).end == size;
}

uint64_t header_hash(const CacheHeader& header) {
  return hash_bytes({reinterpret_cast<const char*>(&header), offsetof(CacheHeader, header_hash)});
}

CacheHeader read_header(std::span<const std::byte> data, std::string_view name) {
  CacheHeader header;
  require(data.size() >= sizeof header, "{} is no token cache: {} bytes are less than its header", name,
          data.size());
  std::memcpy(&header, data.data(), sizeof header);
  require(std::string_view(header.magic, sizeof header.magic) == kCacheMagic, "{} is no token cache", name);
  require(header.version == kCacheVersion, "{} is a token cache of version {}; this program reads version {}",
          name, header.version, kCacheVersion);
  require(header.header_hash == header_hash(header), "{} is damaged: its header does not match its checksum",
          name);
  require(counts_fit(header, data.size()),
          "{} is damaged or cut off: {} bytes do not hold {} documents with {} tokens of {} bytes", name,
          data.size(), header.documents, header.tokens, header.token_width);
  constexpr uint64_t kLargestVocabulary = std::numeric_limits<int32_t>::max();
  require(header.vocab_size > 0 && header.vocab_size <= kLargestVocabulary, "{}: a vocabulary of {} tokens",
          name, header.vocab_size);
  require(header.token_width == (header.vocab_size <= 65536 ? 2U : 4U),
          "{}: tokens of {} bytes for {} token ids", name, header.token_width, header.vocab_size);
  require(header.end_of_text >= -1 && std::cmp_less(header.end_of_text, header.vocab_size),
          "{}: the end of text is token {}, outside the vocabulary of {}", name, header.end_of_text,
          header.vocab_size);
  require(header.documents > 0 && header.train_documents <= header.documents,
          "{}: {} training documents of {} documents", name, header.train_documents, header.documents);
  return header;
}

std::vector<std::string> read_names(std::string_view section, uint64_t count, std::string_view name) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t length = 0;
    require(section.size() >= sizeof length, "{}: {} domain names were announced, {} are there", name, count,
            i);
    std::memcpy(&length, section.data(), sizeof length);
    section.remove_prefix(sizeof length);
    require(length > 0 && length <= section.size(), "{}: a domain name of {} bytes, {} are left", name,
            length, section.size());
    names.emplace_back(section.substr(0, length));
    require(seen.insert(names.back()).second, "{}: two domains have the same name", name);
    section.remove_prefix(length);
  }
  require(section.empty(), "{}: {} bytes after the last domain name", name, section.size());
  return names;
}

void check_documents(const CacheLayout& cache, std::string_view name) {
  const CacheHeader& header = cache.header;
  require(cache.begin.front() == 0 && cache.begin.back() == header.tokens,
          "{}: the documents cover tokens {} to {}, the file holds {}", name, cache.begin.front(),
          cache.begin.back(), header.tokens);
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < header.documents; ++i) {
    require(cache.begin[i] < cache.begin[i + 1], "{}: document {} has no tokens", name, i);
    require(cache.domain[i] < header.domains, "{}: document {} has domain {}, there are {}", name, i,
            cache.domain[i], header.domains);
    bytes = checked_add(bytes, cache.bytes[i], name);
  }
  require(std::in_range<int64_t>(bytes), "{}: {} bytes of text", name, bytes);
}

template <typename Id>
void check_tokens(const CacheLayout& cache, std::string_view name) {
  const Id* ids = reinterpret_cast<const Id*>(cache.tokens.data());
  const CacheHeader& header = cache.header;
  constexpr int64_t kGrain = int64_t{1} << 20;
  parallel_for(0, static_cast<int64_t>(header.tokens), kGrain, [&](int64_t begin, int64_t end) {
    const Id largest = *std::max_element(ids + begin, ids + end);
    require(largest < header.vocab_size, "{}: a token id of {}, outside the vocabulary of {}", name, largest,
            header.vocab_size);
  });
  if (header.end_of_text < 0) return;
  for (uint64_t i = 0; i < header.documents; ++i) {
    const Id last = ids[cache.begin[i + 1] - 1];
    require(std::cmp_equal(last, header.end_of_text), "{}: document {} ends with token {} instead of {}",
            name, i, last, header.end_of_text);
  }
}

void append(std::string& out, const void* data, size_t size) {
  out.append(static_cast<const char*>(data), size);
  out.resize(padded(out.size()));
}

}  // namespace

CacheLayout read_cache(std::span<const std::byte> data, std::string_view name) {
  CacheLayout cache = {
      .header = read_header(data, name), .begin = {}, .bytes = {}, .domain = {}, .names = {}, .tokens = {}};
  const CacheHeader& header = cache.header;
  const Offsets at = offsets_of(header);
  const auto section = [&](uint64_t begin, uint64_t end) {
    return as_text(data.subspan(begin, end - begin));
  };
  const uint64_t hash =
      mix_hash(hash_bytes(section(at.begin, at.tokens)), hash_bytes(section(at.tokens, at.end)));
  require(hash == header.payload_hash, "{} is damaged: its content does not match its checksum", name);
  const std::byte* base = data.data();
  cache.begin = {reinterpret_cast<const uint64_t*>(base + at.begin), header.documents + 1};
  cache.bytes = {reinterpret_cast<const uint64_t*>(base + at.bytes), header.documents};
  cache.domain = {reinterpret_cast<const uint32_t*>(base + at.domain), header.documents};
  cache.tokens = data.subspan(at.tokens, header.token_width * header.tokens);
  cache.names = read_names(section(at.names, at.names + header.name_bytes), header.domains, name);
  check_documents(cache, name);
  if (header.token_width == 2)
    check_tokens<uint16_t>(cache, name);
  else
    check_tokens<uint32_t>(cache, name);
  return cache;
}

void CacheContent::add(int32_t domain_index, uint64_t text_bytes, std::span<const int32_t> ids) {
  for (int32_t id : ids) {
    require(id >= 0 && id < vocab_size, "the tokenizer gave token {}, outside its vocabulary of {}", id,
            vocab_size);
    const auto* id_bytes = reinterpret_cast<const std::byte*>(&id);
    tokens.insert(tokens.end(), id_bytes, id_bytes + token_width());
  }
  begin.push_back(begin.back() + ids.size());
  bytes.push_back(text_bytes);
  domain.push_back(static_cast<uint32_t>(domain_index));
}

std::string CacheContent::finish() {
  tokens.resize(padded(tokens.size()));
  std::string name_section;
  for (const std::string& name : names) {
    const uint32_t length = static_cast<uint32_t>(name.size());
    name_section.append(reinterpret_cast<const char*>(&length), sizeof length).append(name);
  }
  CacheHeader header = {.magic = {},
                        .version = kCacheVersion,
                        .token_width = token_width(),
                        .key = key,
                        .vocab_size = static_cast<uint64_t>(vocab_size),
                        .end_of_text = end_of_text,
                        .documents = bytes.size(),
                        .train_documents = train_documents,
                        .tokens = begin.back(),
                        .domains = names.size(),
                        .name_bytes = name_section.size(),
                        .payload_hash = 0,
                        .header_hash = 0};
  std::memcpy(header.magic, kCacheMagic.data(), sizeof header.magic);
  std::string out;
  append(out, &header, sizeof header);
  append(out, begin.data(), begin.size() * sizeof begin[0]);
  append(out, bytes.data(), bytes.size() * sizeof bytes[0]);
  append(out, domain.data(), domain.size() * sizeof domain[0]);
  append(out, name_section.data(), name_section.size());
  const std::string_view tables = std::string_view(out).substr(sizeof header);
  header.payload_hash = mix_hash(hash_bytes(tables), hash_bytes(as_text(tokens)));
  header.header_hash = header_hash(header);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

void seal_cache(std::string& file) {
  CacheHeader header;
  if (file.size() < sizeof header) return;
  std::memcpy(&header, file.data(), sizeof header);
  if (counts_fit(header, file.size())) {
    const Offsets at = offsets_of(header);
    const std::string_view all = file;
    header.payload_hash =
        mix_hash(hash_bytes(all.substr(at.begin, at.tokens - at.begin)), hash_bytes(all.substr(at.tokens)));
  }
  header.header_hash = header_hash(header);
  std::memcpy(file.data(), &header, sizeof header);
}

}  // namespace gatewright

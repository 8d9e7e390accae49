// The file of a token cache: documents as token ids, ready to be mapped. Little-endian, every section begins
// at a multiple of eight bytes:
//
//   header       CacheHeader
//   begin        uint64 [documents + 1]   first token of each document; the last entry is the number of
//   tokens bytes        uint64 [documents]       bytes of text that each document's tokens stand for domain
//   uint32 [documents]       index of its domain names        for each domain: uint32 length, then that many
//   bytes tokens       uint16 or uint32 [tokens]
//
// Training documents come first, then validation documents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

struct CacheHeader {
  char magic[8];
  uint32_t version;
  uint32_t token_width;  ///< 2 or 4 bytes
  uint64_t key;          ///< of the corpus and the tokenizer
  uint64_t vocab_size;
  int64_t end_of_text;  ///< -1: documents have no end token
  uint64_t documents, train_documents, tokens, domains, name_bytes;
  uint64_t payload_hash;  ///< of the sections before the tokens and of the tokens, mixed
  uint64_t header_hash;   ///< of everything before it
};

inline constexpr std::string_view kCacheMagic = "GWTOKENS";
inline constexpr uint32_t kCacheVersion = 1;

/// A checked cache: views into its bytes.
struct CacheLayout {
  CacheHeader header;
  std::span<const uint64_t> begin, bytes;
  std::span<const uint32_t> domain;
  std::vector<std::string> names;
  std::span<const std::byte> tokens;
};

/// Checks everything: magic, version, hashes, sizes against the bytes that are there, ascending offsets,
/// domains and token ids in range. Whatever is wrong is an error that names `name`.
/// @param data  aligned to 8 bytes
CacheLayout read_cache(std::span<const std::byte> data, std::string_view name);

/// A cache under construction.
struct CacheContent {
  uint64_t key = 0;
  int64_t vocab_size = 0;
  int64_t end_of_text = -1;
  uint64_t train_documents = 0;
  std::vector<uint64_t> begin = {0}, bytes;
  std::vector<uint32_t> domain;
  std::vector<std::string> names;
  std::vector<std::byte> tokens;

  uint32_t token_width() const { return vocab_size <= 65536 ? 2 : 4; }
  /// Appends a document; an id outside the vocabulary is an error.
  void add(int32_t domain_index, uint64_t text_bytes, std::span<const int32_t> ids);
  /// Fills the tokens up to a multiple of eight bytes and gives the file up to them; `tokens` follows.
  /// Nothing can be added after this.
  std::string finish();
};

/// Computes the hashes of a file in memory anew, for who changes one by hand. Leaves alone what is too short
/// or whose sizes don't fit.
void seal_cache(std::string& file);

}  // namespace gatewright

// The tokens of words met lately: one cache a thread, of fixed size, shared by all tokenizers. Text repeats
// its words, and looking one up is several times faster than merging it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace gatewright {

class WordCache {
 public:
  static WordCache& of_this_thread();
  /// A number that no other tokenizer of this process has or had: entries are its own.
  static uint64_t new_owner();

  /// A word of up to 22 bytes and its length as three numbers.
  struct Key {
    uint64_t part[3];
    bool fits;
  };
  /// `word` is part of `text`, whose bytes after the word may be read (and are not used).
  static Key key(std::string_view word, std::string_view text);

  /// Appends the word's tokens if they are known.
  bool find(const Key& key, uint64_t owner, std::vector<int32_t>& out) const;
  void keep(const Key& key, uint64_t owner, std::span<const int32_t> ids);

 private:
  static constexpr size_t kLongestWord = 22;
  static constexpr size_t kMostTokens = 8;
  static constexpr size_t kEntries = size_t{1} << 15;  // 2 MiB

  struct alignas(64) Entry {
    uint64_t owner_and_count = 0;  // 56 and 8 bits; owner 0 is nobody
    uint64_t part[3] = {};
    int32_t ids[kMostTokens] = {};
  };
  static size_t place(const Key& key);

  std::vector<Entry> entries_{kEntries};
};

inline WordCache::Key WordCache::key(std::string_view word, std::string_view text) {
  Key key{.part = {}, .fits = word.size() <= kLongestWord};
  if (!key.fits) return key;
  const size_t n = word.size();
  if (static_cast<size_t>(text.data() + text.size() - word.data()) >= sizeof key.part) {
    std::memcpy(key.part, word.data(), sizeof key.part);
    const auto keep_bytes = [n](size_t from) {
      return n >= from + 8 ? ~uint64_t{0} : n <= from ? 0 : ~uint64_t{0} >> (8 * (from + 8 - n));
    };
    for (size_t i = 0; i < 3; ++i) key.part[i] &= keep_bytes(8 * i);
  } else {
    std::memcpy(key.part, word.data(), n);
  }
  key.part[2] |= uint64_t{n} << 48;
  return key;
}

inline size_t WordCache::place(const Key& key) {
  uint64_t h = key.part[0] * 0x9E3779B97F4A7C15u;
  h = (h ^ h >> 29 ^ key.part[1]) * 0xBF58476D1CE4E5B9u;
  h = (h ^ h >> 32 ^ key.part[2]) * 0x94D049BB133111EBu;
  return static_cast<size_t>(h >> 40) & (kEntries - 1);
}

inline bool WordCache::find(const Key& key, uint64_t owner, std::vector<int32_t>& out) const {
  const Entry& entry = entries_[place(key)];
  const bool same = entry.owner_and_count >> 8 == owner && entry.part[0] == key.part[0] &&
                    entry.part[1] == key.part[1] && entry.part[2] == key.part[2];
  if (!same) return false;
  out.insert(out.end(), entry.ids, entry.ids + (entry.owner_and_count & 0xFF));
  return true;
}

inline void WordCache::keep(const Key& key, uint64_t owner, std::span<const int32_t> ids) {
  if (ids.size() > kMostTokens) return;
  Entry& entry = entries_[place(key)];
  entry.owner_and_count = owner << 8 | ids.size();
  std::memcpy(entry.part, key.part, sizeof key.part);
  std::ranges::copy(ids, entry.ids);
}

}  // namespace gatewright

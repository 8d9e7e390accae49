// How often each word occurs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

/// A hash table of words; their bytes lie one after another in one buffer.
class WordCounts {
 public:
  void add(std::string_view word, int64_t count = 1);
  void add(const WordCounts& other);

  size_t size() const { return entries_.size(); }
  /// Bytes of all different words together.
  size_t total_bytes() const { return bytes_.size(); }
  std::string_view word(size_t i) const {
    return std::string_view(bytes_).substr(entries_[i].offset, entries_[i].length);
  }
  int64_t count(size_t i) const { return entries_[i].count; }
  /// Indices of the words in the order of their bytes.
  std::vector<size_t> sorted() const;

 private:
  struct Entry {
    uint64_t hash, offset, length;
    int64_t count;
  };
  void add(std::string_view word, uint64_t hash, int64_t count);
  void grow();

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<uint64_t> slots_ = std::vector<uint64_t>(1024);  // index in entries_ + 1, 0 is empty
};

}  // namespace gatewright

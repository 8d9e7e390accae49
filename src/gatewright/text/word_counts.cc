#include "gatewright/text/word_counts.h"

#include <algorithm>
#include <numeric>

#include "gatewright/base/hash.h"

namespace gatewright {

void WordCounts::add(std::string_view word, int64_t count) { add(word, hash_bytes(word), count); }

void WordCounts::add(const WordCounts& other) {
  for (size_t i = 0; i < other.size(); ++i) add(other.word(i), other.entries_[i].hash, other.count(i));
}

void WordCounts::add(std::string_view word, uint64_t hash, int64_t count) {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    Entry& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && this->word(slots_[slot] - 1) == word) {
      entry.count += count;
      return;
    }
  }
  entries_.push_back({.hash = hash, .offset = bytes_.size(), .length = word.size(), .count = count});
  bytes_ += word;
  slots_[slot] = entries_.size();
  if (entries_.size() * 2 > slots_.size()) grow();
}

void WordCounts::grow() {
  slots_.assign(slots_.size() * 2, 0);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = entries_[i].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = i + 1;
  }
}

std::vector<size_t> WordCounts::sorted() const {
  std::vector<size_t> order(size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [this](size_t i) { return word(i); });
  return order;
}

}  // namespace gatewright

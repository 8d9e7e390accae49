// Which of many texts a text begins with: the texts sorted, narrowed byte by byte. No memory beyond a view of
// each text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gatewright {

class PrefixIndex {
 public:
  struct Entry {
    std::string_view text;  // not empty; must outlive the index
    int32_t value;
  };
  PrefixIndex() = default;
  /// Of equal texts the first counts.
  explicit PrefixIndex(std::vector<Entry> entries) : entries_(std::move(entries)) {
    std::ranges::stable_sort(entries_, {}, &Entry::text);
    const auto same_text = [](const Entry& a, const Entry& b) { return a.text == b.text; };
    entries_.erase(std::unique(entries_.begin(), entries_.end(), same_text), entries_.end());
    for (const Entry& entry : entries_) ++begin_[static_cast<uint8_t>(entry.text[0]) + size_t{1}];
    for (size_t byte = 0; byte < 256; ++byte) begin_[byte + 1] += begin_[byte];
  }

  bool empty() const { return entries_.empty(); }
  /// Whether any text begins with this byte.
  bool begins(char byte) const {
    const auto b = static_cast<uint8_t>(byte);
    return begin_[b] != begin_[b + size_t{1}];
  }

  /// Calls found(size, value) for each of the texts that `text` begins with, the shortest first.
  template <typename Found>
  void each(std::string_view text, const Found& found) const {
    if (text.empty()) return;
    const auto first = static_cast<uint8_t>(text[0]);
    const Entry* low = entries_.data() + begin_[first];
    const Entry* high = entries_.data() + begin_[first + size_t{1}];
    for (size_t depth = 1; low != high; ++depth) {
      if (low->text.size() == depth) {
        found(depth, low->value);
        if (++low == high) return;
      }
      if (depth == text.size()) return;
      const auto byte = static_cast<uint8_t>(text[depth]);
      const auto at_depth = [depth](const Entry& e) { return static_cast<uint8_t>(e.text[depth]); };
      low = std::ranges::lower_bound(low, high, byte, {}, at_depth);
      high = std::ranges::upper_bound(low, high, byte, {}, at_depth);
    }
  }

  struct Match {
    size_t size = 0;  // 0: none
    int32_t value = 0;
  };
  Match longest(std::string_view text) const {
    Match match;
    each(text, [&match](size_t size, int32_t value) { match = {size, value}; });
    return match;
  }

 private:
  std::vector<Entry> entries_;
  std::array<uint32_t, 257> begin_{};  // of the texts with each first byte
};

}  // namespace gatewright

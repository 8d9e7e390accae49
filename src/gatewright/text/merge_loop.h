// The inner loop of every BPE: neighbouring tokens of a word are merged, lowest rank first, leftmost on a
// tie, in O(n log n).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "gatewright/base/error.h"

namespace gatewright {

struct RankedMerge {
  static constexpr int32_t kNever = INT32_MAX;
  int32_t rank = kNever;
  int32_t result = 0;
};

/// What a word begins with at one place: a token and the bytes it covers; id -1 when none covers it.
struct FirstToken {
  int32_t id;
  uint32_t size;
};

/// One word while it is merged. Each token lives at the place of its first byte, linked to its neighbours; a
/// tournament over the places holds the rank of each token with the next one, so its winner is the pair to
/// merge. `Rules` has
///   FirstToken first(std::string_view word, uint32_t place) const;
///   RankedMerge merged(int32_t left, int32_t right, std::string_view joined) const;
template <typename Rules>
class MergeLoop {
 public:
  /// Calls emit(id, bytes) for each token in order.
  template <typename Emit>
  static void run(const Rules& rules, std::string_view word, const Emit& emit) {
    require(word.size() <= kLongestWord, "cannot encode a word of {} bytes: the limit is {}", word.size(),
            kLongestWord);
    thread_local MergeLoop kept;
    if (word.size() <= kKeptWord)
      kept.encode(rules, word, emit);
    else
      MergeLoop().encode(rules, word, emit);
  }

 private:
  static constexpr uint32_t kLongestWord = uint32_t{1} << 30;
  /// Each thread keeps the memory for words of up to this many bytes: 28 times as much.
  static constexpr uint32_t kKeptWord = uint32_t{1} << 16;
  static constexpr uint64_t kNoPair = uint64_t{RankedMerge::kNever} << 32;

  template <typename Emit>
  void encode(const Rules& rules, std::string_view word, const Emit& emit) {
    word_ = word;
    lay_out(rules);
    while (winner_[1] < kNoPair) merge(rules, static_cast<uint32_t>(winner_[1]));
    for (uint32_t place = 0; place < count_; place = next_[place])
      emit(ids_[place], word.substr(place, next_[place] - place));
  }

  void lay_out(const Rules& rules) {
    count_ = static_cast<uint32_t>(word_.size());
    if (ids_.size() < count_) {
      ids_.resize(count_);
      next_.resize(count_);
      previous_.resize(count_);
      winner_.resize(2 * size_t{count_});
    }
    std::fill_n(winner_.begin() + count_, count_, kNoPair);
    uint32_t before = 0;
    for (uint32_t place = 0; place < count_;) {
      const FirstToken first = rules.first(word_, place);
      ids_[place] = first.id;
      next_[place] = place + first.size;
      previous_[place] = before;  // never followed from place 0
      before = place;
      place += first.size;
    }
    for (uint32_t place = 0; place < count_; place = next_[place])
      winner_[count_ + place] = pair_at(rules, place);
    for (uint32_t node = count_ - 1; node > 0; --node)
      winner_[node] = std::min(winner_[2 * node], winner_[2 * node + 1]);
  }

  RankedMerge merged_at(const Rules& rules, uint32_t place) const {
    const uint32_t right = next_[place];
    return rules.merged(ids_[place], ids_[right], word_.substr(place, next_[right] - place));
  }

  /// Rank and place of the pair that begins here: the smaller is the one to merge first.
  uint64_t pair_at(const Rules& rules, uint32_t place) const {
    if (next_[place] == count_) return kNoPair;
    return uint64_t(merged_at(rules, place).rank) << 32 | place;
  }

  void merge(const Rules& rules, uint32_t left) {
    const uint32_t right = next_[left];
    ids_[left] = merged_at(rules, left).result;
    next_[left] = next_[right];
    if (next_[left] < count_) previous_[next_[left]] = left;
    play(right, kNoPair);
    play(left, pair_at(rules, left));
    if (left > 0) play(previous_[left], pair_at(rules, previous_[left]));
  }

  void play(uint32_t place, uint64_t pair) {
    size_t node = size_t{count_} + place;
    winner_[node] = pair;
    for (; node > 1; node /= 2) {
      const uint64_t best = std::min(winner_[node], winner_[node ^ 1]);
      if (winner_[node / 2] == best) break;
      winner_[node / 2] = best;
    }
  }

  std::string_view word_;
  uint32_t count_ = 0;
  std::vector<int32_t> ids_;
  std::vector<uint32_t> next_, previous_;
  std::vector<uint64_t> winner_;  // leaves at [count, 2 count), the parent of i is i / 2, the root is 1
};

}  // namespace gatewright

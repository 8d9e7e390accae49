// The inner loop of BPE training: all different words in one array, merged in place. A merge costs time in
// proportion to the places where its pair occurs, however long the words are.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "gatewright/text/pair_table.h"
#include "gatewright/text/vocabulary.h"
#include "gatewright/text/word_counts.h"

namespace gatewright {

class MergeLearner {
 public:
  /// `vocabulary` has the tokens to begin with, the 256 bytes among them, and takes the merges.
  MergeLearner(const WordCounts& words, BpeVocabulary vocabulary);

  /// Merges the most frequent pair (ties: lower ids) if it occurs at least `min_frequency` times.
  bool merge_next(int64_t min_frequency);

  const BpeVocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Pair {
    int32_t left, right;
    int64_t count = 0;
    size_t seen_by = SIZE_MAX;     // number of the merge that saw it last
    std::vector<uint32_t> places;  // where it was seen beginning; some may no longer hold
  };
  struct Candidate {  // in the queue; the count may be out of date
    int64_t count;
    int32_t left, right;
    uint32_t pair;
    bool operator<(const Candidate& other) const {
      if (count != other.count) return count < other.count;
      return left != other.left ? left > other.left : right > other.right;
    }
  };

  void lay_out(const WordCounts& words);
  Pair& pair(int32_t left, int32_t right);
  void change(int32_t left, int32_t right, int64_t by) { pair(left, right).count += by; }
  void see(int32_t left, int32_t right, uint32_t place, int64_t count);
  std::optional<Candidate> most_frequent(int64_t min_frequency);
  int32_t token_for(const std::string& bytes);
  void merge_at(uint32_t place, const BpeMerge& merge);
  uint32_t size(int32_t token) const { return sizes_[static_cast<size_t>(token)]; }
  void queue_seen();

  BpeVocabulary vocabulary_;
  std::unordered_map<std::string, int32_t> token_ids_;
  std::vector<uint32_t> sizes_;  // bytes of each token

  // One slot a byte and one at each end of a word. The first slot of a token holds its id, the last one of a
  // token of several bytes minus their number: so both neighbours are found from a place.
  std::vector<int32_t> slots_;
  std::vector<uint32_t> word_at_;  // index in counts_ of the word of each slot
  std::vector<int64_t> counts_;

  std::vector<Pair> pairs_;
  PairTable<uint32_t> pair_index_;
  std::vector<uint32_t> seen_;  // pairs to be queued: seen by the merge that is being made
  std::priority_queue<Candidate> queue_;
};

}  // namespace gatewright

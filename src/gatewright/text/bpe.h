// Byte-pair encoding (Sennrich et al. 2016; on bytes: Radford et al. 2019): the vocabulary, and the merging
// of one word.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/pair_table.h"

namespace gatewright {

/// A token that is not learned but declared, as `added_tokens` of tokenizer.json has it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = true;  // a control token, never made from plain text
  bool single_word = false, lstrip = false, rstrip = false, normalized = false;
};

struct BpeMerge {
  int32_t left = 0, right = 0, result = 0;
};

struct BpeVocabulary {
  std::vector<std::string> tokens;  // bytes of each id
  std::vector<BpeMerge> merges;     // by rank, the first to be applied first
  std::vector<AddedToken> added;    // sorted by id; their contents stand in `tokens`, too
};

/// Merges words by rank, lowest first, leftmost on a tie.
class BpeMerger {
 public:
  /// Errors name `what`: a byte without a token, a merge whose tokens do not exist or do not fit together, or
  /// that would make an added token, a pair merged twice.
  BpeMerger(const BpeVocabulary& vocabulary, std::string_view what);

  /// Appends the tokens of one word, not empty, at most 1 GiB. Time O(n log n) in its bytes.
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;

 private:
  class Word;
  struct Merged {
    int32_t rank = kNever;
    int32_t result = 0;
  };
  static constexpr int32_t kNever = INT32_MAX;
  Merged merged(int32_t left, int32_t right) const {
    const Merged* found = table_.find(left, right);
    return found ? *found : Merged{};
  }

  std::array<int32_t, 256> byte_token_;
  PairTable<Merged> table_;
};

}  // namespace gatewright

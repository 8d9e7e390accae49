// SentencePiece's BPE (Kudo and Richardson 2018): of all neighbouring pairs the one whose joined text is the
// token with the highest score is merged, leftmost on a tie.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gatewright/text/merge_loop.h"
#include "gatewright/text/pair_table.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {

class ScoredBpe final : public TokenizerModel {
 public:
  /// Errors name `what`. The definition must live as long.
  ScoredBpe(const TokenizerDefinition& definition, std::string_view what);

  void encode_word(std::string_view word, std::vector<int32_t>& out) const override;

  // What MergeLoop asks.
  FirstToken first(std::string_view word, uint32_t place) const;
  RankedMerge merged(int32_t left, int32_t right, std::string_view joined) const {
    if (left < 0 || right < 0 || joined.size() > kPairedBytes) return by_text(joined);
    const RankedMerge* found = pairs_.find(left, right);
    return found ? *found : RankedMerge{};
  }

 private:
  struct Token {
    int32_t id, rank;  // equal scores have equal ranks
  };
  /// Longer tokens are rare, and the texts of their parts cost more to go through than they are worth.
  static constexpr size_t kPairedBytes = 48;

  RankedMerge by_text(std::string_view joined) const;
  void find_pairs();

  std::unordered_map<std::string_view, Token> tokens_;
  std::array<int32_t, 128> ascii_;  // the tokens of its characters, else -1
  PairTable<RankedMerge> pairs_;    // every two tokens that make one of up to kPairedBytes
  size_t longest_ = 0;              // bytes of a token
  bool fuse_unknown_;
  UnknownText unknown_;
};

/// Refuses scores that are not numbers, or not one a token.
void check_scores(const TokenizerDefinition& definition, std::string_view what);

}  // namespace gatewright

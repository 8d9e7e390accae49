// SentencePiece's BPE (Kudo and Richardson 2018): of all neighbouring pairs the one whose joined text is the
// token with the highest score is merged, leftmost on a tie.
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "gatewright/text/merge_loop.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {

class ScoredBpe final : public TokenizerModel {
 public:
  /// Errors name `what`. The definition must live as long.
  ScoredBpe(const TokenizerDefinition& definition, std::string_view what);

  void encode_word(std::string_view word, std::vector<int32_t>& out) const override;

  // What MergeLoop asks.
  FirstToken first(std::string_view word, uint32_t place) const;
  RankedMerge merged(int32_t left, int32_t right, std::string_view joined) const;

 private:
  struct Token {
    int32_t id, rank;  // equal scores have equal ranks
  };
  std::unordered_map<std::string_view, Token> tokens_;
  size_t longest_ = 0;  // bytes of a token
  bool fuse_unknown_;
  UnknownText unknown_;
};

/// Refuses scores that are not numbers, or not one a token.
void check_scores(const TokenizerDefinition& definition, std::string_view what);

}  // namespace gatewright

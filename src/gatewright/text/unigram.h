// The Unigram language model (Kudo 2018): the cut of a word whose tokens' scores have the highest sum.
#pragma once

#include <string_view>
#include <vector>

#include "gatewright/text/prefix_index.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {

class Unigram final : public TokenizerModel {
 public:
  /// Errors name `what`. The definition must live as long.
  Unigram(const TokenizerDefinition& definition, std::string_view what);

  /// Viterbi; a character that no token covers alone costs the lowest score - 10.
  void encode_word(std::string_view word, std::vector<int32_t>& out) const override;

 private:
  const std::vector<double>& scores_;
  PrefixIndex tokens_;
  double unknown_score_ = 0;
  bool fuse_unknown_;
  UnknownText unknown_;
};

}  // namespace gatewright

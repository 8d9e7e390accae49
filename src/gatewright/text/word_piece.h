// WordPiece (Schuster and Nakajima 2012, as BERT uses it): the longest token that a word begins with, then
// the longest ones that continue it; a word that does not come out is unknown as a whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/prefix_index.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {

class WordPiece final : public TokenizerModel {
 public:
  /// Errors name `what`: no unknown token. The definition must live as long.
  WordPiece(const TokenizerDefinition& definition, std::string_view what);

  void encode_word(std::string_view word, std::vector<int32_t>& out) const override;

 private:
  PrefixIndex beginning_, continuing_;  // continuing ones without their prefix
  int64_t longest_word_;
  int32_t unknown_ = 0;
};

}  // namespace gatewright

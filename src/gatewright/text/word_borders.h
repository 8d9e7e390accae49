// Where a text without a pre-tokeniser may be cut into words all the same: between characters that stand
// beside each other in no token. The tokens are the same, and short words repeat, so that their tokens are
// remembered.
#pragma once

#include <array>
#include <bitset>
#include <string_view>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

class WordBorders {
 public:
  /// For vocabularies over characters; others have no such places.
  explicit WordBorders(const TokenizerDefinition& definition);

  /// The end of the word that begins at `begin`, which lies within the text.
  size_t end_of_word(std::string_view text, size_t begin) const;

 private:
  static constexpr std::string_view kSpaceMark = "\u2581";  // SentencePiece's space

  /// Whether a space mark begins at `at`, after something that is none.
  static bool mark_begins(std::string_view text, size_t at) {
    return text.substr(at).starts_with(kSpaceMark) && !text.substr(0, at).ends_with(kSpaceMark);
  }

  bool at_space_marks_ = false;                  // before one that follows something else
  std::array<std::bitset<128>, 128> between_{};  // two characters of ASCII
};

}  // namespace gatewright

// Cuts text into the words of GPT-2's pre-tokeniser (Radford et al. 2019), the longest first alternative of
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// The words cover the text without gaps. A byte that belongs to no valid UTF-8 character counts as a
// character that is neither letter, number nor space.
#pragma once

#include <cstddef>
#include <string_view>

#include "gatewright/text/character_scanner.h"

namespace gatewright {

/// digits_alone: \p{N} cuts first, so that each number is a word of its own and the pattern sees what lies
/// between (StarCoder, SmolLM).
template <bool digits_alone>
class Gpt2ScannerOf : public CharacterScanner {
 public:
  /// Begins at `begin`, which must be the border of a word; see next_border.
  explicit Gpt2ScannerOf(std::string_view text, size_t begin = 0) : CharacterScanner(text, begin) {}

  /// The next word; not done().
  std::string_view next() { return taken(end_of_word(at_)); }

  /// The first place at or after `from` where a word begins whatever stands before it (white space after
  /// something that is none), or the end of the text.
  static size_t next_border(std::string_view text, size_t from);

 private:
  const char* end_of_word(const char* begin) const;
  const char* end_of_spaces(const char* begin) const;
  const char* end_of_contraction(const char* begin) const;
};

using Gpt2Scanner = Gpt2ScannerOf<false>;
using DigitsGpt2Scanner = Gpt2ScannerOf<true>;

}  // namespace gatewright

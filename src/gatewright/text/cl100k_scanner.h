// Cuts text into the words of the pattern of cl100k, Llama-3 and Qwen2, the longest first alternative of
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}|
//   ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// with n = 3 for cl100k and Llama-3, 1 for Qwen2. The words cover the text without gaps; a byte that is no
// UTF-8 counts as a character that is neither letter, number nor space.
#pragma once

#include <string_view>

#include "gatewright/text/character_scanner.h"

namespace gatewright {

template <int most_digits>
class Cl100kScannerOf : public CharacterScanner {
 public:
  explicit Cl100kScannerOf(std::string_view text) : CharacterScanner(text, 0) {}

  /// The next word; not done().
  std::string_view next() { return taken(end_of_word(at_)); }

 private:
  const char* end_of_word(const char* begin) const;
  const char* end_of_contraction(const char* begin) const;
  const char* end_of_digits(const char* at) const;
  const char* end_of_symbols(const char* at) const;
  const char* end_of_spaces(const char* begin) const;
};

using Cl100kScanner = Cl100kScannerOf<3>;
using Qwen2Scanner = Cl100kScannerOf<1>;

}  // namespace gatewright

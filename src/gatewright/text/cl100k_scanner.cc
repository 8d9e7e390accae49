#include "gatewright/text/cl100k_scanner.h"

namespace gatewright {
namespace {

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

}  // namespace

template <int most_digits>
const char* Cl100kScannerOf<most_digits>::end_of_word(const char* begin) const {
  if (*begin == '\'')
    if (const char* end = end_of_contraction(begin)) return end;
  const Character first = character(begin);
  const char* const after = begin + first.size;
  if (first.kind == CharacterClass::kLetter) return end_of_run(after, CharacterClass::kLetter);
  if (first.kind == CharacterClass::kNumber) return end_of_digits(after);
  if (after < end_ && !is_line_end(*begin)) {
    const Character second = character(after);
    if (second.kind == CharacterClass::kLetter)
      return end_of_run(after + second.size, CharacterClass::kLetter);
    if (*begin == ' ' && second.kind == CharacterClass::kOther) return end_of_symbols(after + second.size);
  }
  return first.kind == CharacterClass::kOther ? end_of_symbols(after) : end_of_spaces(begin);
}

/// Letters of either case; the long s (U+017F) is a case of s.
template <int most_digits>
const char* Cl100kScannerOf<most_digits>::end_of_contraction(const char* begin) const {
  const auto left = end_ - begin;
  if (left < 2) return nullptr;
  const auto lower = [](char c) { return static_cast<char>(c | 0x20); };
  const char a = lower(begin[1]);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return begin + 2;
  if (left < 3) return nullptr;
  if (begin[1] == '\xC5' && begin[2] == '\xBF') return begin + 3;
  const char b = lower(begin[2]);
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? begin + 3 : nullptr;
}

template <int most_digits>
const char* Cl100kScannerOf<most_digits>::end_of_digits(const char* at) const {
  for (int count = 1; count < most_digits && at < end_; ++count) {
    const Character c = character(at);
    if (c.kind != CharacterClass::kNumber) break;
    at += c.size;
  }
  return at;
}

template <int most_digits>
const char* Cl100kScannerOf<most_digits>::end_of_symbols(const char* at) const {
  at = end_of_run(at, CharacterClass::kOther);
  while (at < end_ && is_line_end(*at)) ++at;
  return at;
}

/// Up to the last line end if there is one; else all of the white space at the end of the text, and elsewhere
/// all but its last character, unless it is the only one.
template <int most_digits>
const char* Cl100kScannerOf<most_digits>::end_of_spaces(const char* begin) const {
  const char* last = begin;
  const char* line_end = nullptr;
  const char* at = begin;
  while (at < end_) {
    const Character c = character(at);
    if (c.kind != CharacterClass::kSpace) break;
    last = at;
    at += c.size;
    if (is_line_end(*last)) line_end = at;
  }
  if (line_end) return line_end;
  return at == end_ || last == begin ? at : last;
}

template class Cl100kScannerOf<1>;
template class Cl100kScannerOf<3>;

}  // namespace gatewright

#include "gatewright/text/gpt2_scanner.h"

namespace gatewright {

template <bool digits_alone>
const char* Gpt2ScannerOf<digits_alone>::end_of_word(const char* begin) const {
  if (*begin == '\'')
    if (const char* end = end_of_contraction(begin)) return end;
  const Character first = character(begin);
  if (digits_alone && first.kind == CharacterClass::kNumber) return begin + first.size;
  if (first.kind != CharacterClass::kSpace) return end_of_run(begin + first.size, first.kind);
  if (*begin == ' ' && begin + 1 < end_) {
    const Character second = character(begin + 1);
    const bool joins =
        second.kind != CharacterClass::kSpace && !(digits_alone && second.kind == CharacterClass::kNumber);
    if (joins) return end_of_run(begin + 1 + second.size, second.kind);
  }
  return end_of_spaces(begin);
}

/// All of the white space at the end of the text (or before a number that stands alone); elsewhere all but
/// its last character, which goes with what follows or, when it is the only one, stands alone.
template <bool digits_alone>
const char* Gpt2ScannerOf<digits_alone>::end_of_spaces(const char* begin) const {
  const char* last = begin;
  const char* at = begin;
  while (at < end_) {
    const Character c = character(at);
    if (digits_alone && c.kind == CharacterClass::kNumber) return at;
    if (c.kind != CharacterClass::kSpace) return last > begin ? last : at;
    last = at;
    at += c.size;
  }
  return at;
}

template <bool digits_alone>
const char* Gpt2ScannerOf<digits_alone>::end_of_contraction(const char* begin) const {
  const auto left = end_ - begin;
  if (left < 2) return nullptr;
  const char a = begin[1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return begin + 2;
  if (left < 3) return nullptr;
  const char b = begin[2];
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? begin + 3 : nullptr;
}

template <bool digits_alone>
size_t Gpt2ScannerOf<digits_alone>::next_border(std::string_view text, size_t from) {
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  if (from == 0) return 0;
  for (size_t at = from; at < text.size(); ++at) {
    const char before = text[at - 1];
    if (is_space(text[at]) && static_cast<uint8_t>(before) < 0x80 && !is_space(before)) return at;
  }
  return text.size();
}

template class Gpt2ScannerOf<false>;
template class Gpt2ScannerOf<true>;

}  // namespace gatewright

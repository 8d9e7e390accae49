#include "gatewright/text/gpt2_scanner.h"

namespace gatewright {

const char* Gpt2Scanner::end_of_word(const char* begin) const {
  if (*begin == '\'')
    if (const char* end = end_of_contraction(begin)) return end;
  const Character first = character(begin);
  if (first.kind != CharacterClass::kSpace) return end_of_run(begin + first.size, first.kind);
  if (*begin == ' ' && begin + 1 < end_) {
    const Character second = character(begin + 1);
    if (second.kind != CharacterClass::kSpace) return end_of_run(begin + 1 + second.size, second.kind);
  }
  return end_of_spaces(begin);
}

const char* Gpt2Scanner::end_of_run(const char* at, CharacterClass kind) const {
  while (at < end_) {
    const Character c = character(at);
    if (c.kind != kind) break;
    at += c.size;
  }
  return at;
}

/// All of the white space at the end of the text; elsewhere all but its last character, which goes with what
/// follows or, when it is the only one, stands alone.
const char* Gpt2Scanner::end_of_spaces(const char* begin) const {
  const char* last = begin;
  const char* at = begin;
  while (at < end_) {
    const Character c = character(at);
    if (c.kind != CharacterClass::kSpace) return last > begin ? last : at;
    last = at;
    at += c.size;
  }
  return at;
}

const char* Gpt2Scanner::end_of_contraction(const char* begin) const {
  const auto left = end_ - begin;
  if (left < 2) return nullptr;
  const char a = begin[1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return begin + 2;
  if (left < 3) return nullptr;
  const char b = begin[2];
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? begin + 3 : nullptr;
}

size_t Gpt2Scanner::next_border(std::string_view text, size_t from) {
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  if (from == 0) return 0;
  for (size_t at = from; at < text.size(); ++at) {
    const char before = text[at - 1];
    if (is_space(text[at]) && static_cast<uint8_t>(before) < 0x80 && !is_space(before)) return at;
  }
  return text.size();
}

}  // namespace gatewright

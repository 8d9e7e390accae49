// Cuts text into the words of GPT-2's pre-tokeniser (Radford et al. 2019), the longest first alternative of
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// The words cover the text without gaps. A byte that belongs to no valid UTF-8 character counts as a
// character that is neither letter, number nor space.
#pragma once

#include <cstddef>
#include <string_view>

#include "gatewright/text/unicode_classes.h"

namespace gatewright {

class Gpt2Scanner {
 public:
  /// Begins at `begin`, which must be the border of a word; see next_border.
  explicit Gpt2Scanner(std::string_view text, size_t begin = 0)
      : text_(text.data()), end_(text.data() + text.size()), at_(text.data() + begin) {}

  bool done() const { return at_ == end_; }
  size_t position() const { return static_cast<size_t>(at_ - text_); }

  /// The next word; not done().
  std::string_view next() {
    const char* const begin = at_;
    at_ = end_of_word(begin);
    return {begin, static_cast<size_t>(at_ - begin)};
  }

  /// The first place at or after `from` where a word begins whatever stands before it (white space after
  /// something that is none), or the end of the text.
  static size_t next_border(std::string_view text, size_t from);

 private:
  struct Character {
    CharacterClass kind;
    uint32_t size;
  };
  Character character(const char* at) const {
    const auto byte = static_cast<uint8_t>(*at);
    if (byte < 0x80) return {table_.classes[0][byte], 1};
    const Utf8Character c = decode_utf8(at, end_);
    return {character_class(table_, c.code), c.size};
  }
  const char* end_of_word(const char* begin) const;
  const char* end_of_run(const char* at, CharacterClass kind) const;
  const char* end_of_spaces(const char* begin) const;
  const char* end_of_contraction(const char* begin) const;

  const CharacterClassTable& table_ = character_class_table();
  const char* text_;
  const char* end_;
  const char* at_;
};

}  // namespace gatewright

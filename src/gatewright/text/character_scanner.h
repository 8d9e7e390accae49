// What the hand-written scanners of pre-tokenisers share: a place in a text, and the classes of its
// characters.
#pragma once

#include <cstddef>
#include <string_view>

#include "gatewright/text/unicode_classes.h"

namespace gatewright {

class CharacterScanner {
 public:
  bool done() const { return at_ == end_; }
  size_t position() const { return static_cast<size_t>(at_ - text_); }

 protected:
  CharacterScanner(std::string_view text, size_t begin)
      : text_(text.data()), end_(text.data() + text.size()), at_(text.data() + begin) {}

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
  const char* end_of_run(const char* at, CharacterClass kind) const {
    while (at < end_) {
      const Character c = character(at);
      if (c.kind != kind) break;
      at += c.size;
    }
    return at;
  }
  /// The text from here to `end`, and goes on there.
  std::string_view taken(const char* end) {
    const std::string_view word(at_, static_cast<size_t>(end - at_));
    at_ = end;
    return word;
  }

  const CharacterClassTable& table_ = character_class_table();
  const char* text_;
  const char* end_;
  const char* at_;
};

}  // namespace gatewright

// Cuts text into the words of BERT's pre-tokeniser (Devlin et al. 2018): what lies between white space, each
// character of punctuation by itself.
#pragma once

#include <cstdint>
#include <string_view>

#include "gatewright/text/unicode_text.h"
#include "gatewright/text/utf8.h"

namespace gatewright {

class BertScanner {
 public:
  explicit BertScanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {
    skip_spaces();
  }

  bool done() const { return at_ == end_; }
  /// The next word; not done().
  std::string_view next() {
    const char* const begin = at_;
    Character c = character(at_);
    const bool alone = c.kind == Kind::kPunctuation;
    do {
      at_ += c.size;
    } while (!alone && at_ < end_ && (c = character(at_)).kind == Kind::kOther);
    const std::string_view word(begin, static_cast<size_t>(at_ - begin));
    skip_spaces();
    return word;
  }

 private:
  enum class Kind : uint8_t { kOther, kSpace, kPunctuation };
  struct Character {
    Kind kind;
    uint32_t size;
  };
  static Kind kind_of(uint32_t code) {
    return is_space(code) ? Kind::kSpace : is_punctuation(code) ? Kind::kPunctuation : Kind::kOther;
  }
  struct AsciiKinds {
    AsciiKinds() {
      for (uint32_t code = 0; code < 0x80; ++code) kind[code] = kind_of(code);
    }
    Kind kind[0x80];
  };
  static const AsciiKinds& ascii_kinds() {
    static const AsciiKinds kinds;
    return kinds;
  }

  Character character(const char* at) const {
    const auto byte = static_cast<uint8_t>(*at);
    if (byte < 0x80) return {ascii_.kind[byte], 1};
    const Utf8Character c = decode_utf8(at, end_);
    return {kind_of(c.code), c.size};
  }
  void skip_spaces() {
    while (at_ < end_) {
      const Character c = character(at_);
      if (c.kind != Kind::kSpace) return;
      at_ += c.size;
    }
  }

  const AsciiKinds& ascii_ = ascii_kinds();
  const char* at_;
  const char* end_;
};

}  // namespace gatewright

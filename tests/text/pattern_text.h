// Random text in which the rules of pre-tokenisers meet: mostly characters that some rule names, some from
// anywhere.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/text/regex.h"
#include "gatewright/text/utf8.h"

namespace gatewright {

inline std::string random_pattern_text(RandomStream& random, uint64_t most = 24) {
  static const std::vector<std::string> kPieces = {
      " ",       " ",    "  ",     "\n",     "\t",     "\r\n",   "\r", "'",  "'s",  "'S",
      "'\u017F", "'re",  "'RE",    "'l",     "'ll",    "'Ll",    "a",  "B",  "vel", "1",
      "23",      "4567", "!",      "...",    "/",      "é",      "я",  "日", "٣",   "½",
      "\u00A0",  "_",    "\u2003", "\u3000", "\u180E", "\u0301", "😀",  "ǅ",  "ʰ"};
  static const Regex assigned(R"(\P{Cn})", "the test");
  std::string text;
  for (uint64_t left = 1 + random.below(most); left > 0; --left) {
    if (random.below(8) != 0) {
      text += kPieces[random.below(kPieces.size())];
      continue;
    }
    const auto code = static_cast<uint32_t>(random.below(random.below(2) ? 0x3000 : 0x20000));
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string other;
    append_utf8(code, other);
    if (assigned.find(other, 0)) text += other;
  }
  return text;
}

/// What a pattern matches, one match after another, with what lies between.
inline std::vector<std::string> cut_by(const Regex& regex, const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const auto match = regex.find(text, at);
    if (!match || match->begin > at)
      words.push_back(text.substr(at, (match ? match->begin : text.size()) - at));
    if (!match) break;
    words.push_back(text.substr(match->begin, match->end - match->begin));
    at = match->end;
  }
  return words;
}

}  // namespace gatewright

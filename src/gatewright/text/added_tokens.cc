#include "gatewright/text/added_tokens.h"

#include "gatewright/text/unicode_text.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

/// The begin of the character that ends at `end`.
size_t character_before(std::string_view text, size_t end, size_t lowest) {
  size_t begin = end - 1;
  while (begin > lowest && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  const bool whole = decode_utf8(text.data() + begin, text.data() + end).size == end - begin;
  return whole ? begin : end - 1;
}

uint32_t code_at(std::string_view text, size_t at) {
  return decode_utf8(text.data() + at, text.data() + text.size()).code;
}

}  // namespace

size_t PlainParts::room(size_t at) {
  while (!parts.empty() && parts.front().end <= at) parts = parts.subspan(1);
  if (parts.empty()) return std::string_view::npos;
  return parts.front().begin > at ? parts.front().begin - at : 0;
}

AddedTokenCutter::AddedTokenCutter(std::vector<AddedToken> tokens, std::vector<std::string> contents)
    : tokens_(std::move(tokens)), contents_(std::move(contents)) {
  std::vector<PrefixIndex::Entry> entries;
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (!contents_[i].empty()) entries.push_back({contents_[i], static_cast<int32_t>(i)});
  index_ = PrefixIndex(std::move(entries));
}

AddedTokenCutter::Found AddedTokenCutter::find(std::string_view text, size_t at, size_t done,
                                               PlainParts& plain) const {
  const size_t room = plain.room(at);
  const Found own = find(text, at, done, room);
  if (room == std::string_view::npos) return own;
  const Found other = plain.others->find(text, at, done, std::string_view::npos);
  return other.size > own.size ? other : own;
}

AddedTokenCutter::Found AddedTokenCutter::find(std::string_view text, size_t at, size_t done,
                                               size_t longest) const {
  const PrefixIndex::Match match = index_.longest(text.substr(at, longest));
  if (match.size == 0) return {};
  const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
  size_t begin = at, end = at + match.size;
  if (token.single_word) {
    const bool joined_left = begin > 0 && is_word(code_at(text, character_before(text, begin, 0)));
    const bool joined_right = end < text.size() && is_word(code_at(text, end));
    if (joined_left || joined_right) return {};
  }
  if (token.lstrip)
    while (begin > done) {
      const size_t before = character_before(text, begin, done);
      if (!is_space(code_at(text, before))) break;
      begin = before;
    }
  if (token.rstrip)
    while (end < text.size()) {
      const Utf8Character c = decode_utf8(text.data() + end, text.data() + text.size());
      if (!is_space(c.code)) break;
      end += c.size;
    }
  return {.token = &token, .size = match.size, .begin = begin, .end = end};
}

}  // namespace gatewright

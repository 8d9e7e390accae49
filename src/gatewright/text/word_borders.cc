#include "gatewright/text/word_borders.h"

#include "gatewright/text/tokenizer_model.h"

namespace gatewright {
namespace {

bool is_ascii(char c) { return static_cast<uint8_t>(c) < 0x80; }

}  // namespace

WordBorders::WordBorders(const TokenizerDefinition& definition) {
  if (definition.kind == TokenizerKind::kByteLevelBpe || definition.kind == TokenizerKind::kWordPiece ||
      definition.ignore_merges)
    return;
  const AddedIds ids(definition);
  bool mark_is_token = false, marks_begin_tokens = true;
  std::bitset<128> known;  // characters that are never fused with an unknown neighbour
  if (definition.byte_fallback) known.set();
  for (auto& row : between_) row.set();
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string_view token = definition.tokens[id];
    if (ids.special[id] || (definition.byte_fallback && byte_of_name(token))) continue;
    mark_is_token |= token == kSpaceMark;
    if (token.size() == 1 && is_ascii(token[0])) known.set(static_cast<uint8_t>(token[0]));
    for (size_t at = 1; at < token.size(); ++at) {
      marks_begin_tokens &= !mark_begins(token, at);
      if (is_ascii(token[at - 1]) && is_ascii(token[at]))
        between_[static_cast<uint8_t>(token[at - 1])].reset(static_cast<uint8_t>(token[at]));
    }
  }
  for (size_t left = 0; left < between_.size(); ++left)
    between_[left] &= known[left] ? known : std::bitset<128>();
  // Where what is unknown leaves nothing, space marks on both sides of it may merge.
  const bool leaves_out = !definition.unknown && !definition.byte_fallback;
  at_space_marks_ = mark_is_token && marks_begin_tokens && !leaves_out;
}

size_t WordBorders::end_of_word(std::string_view text, size_t begin) const {
  for (size_t at = begin + 1; at < text.size(); ++at) {
    const char before = text[at - 1], here = text[at];
    if (is_ascii(here)) {
      if (is_ascii(before) && between_[static_cast<uint8_t>(before)][static_cast<uint8_t>(here)]) return at;
    } else if (at_space_marks_ && here == kSpaceMark[0] && mark_begins(text, at)) {
      return at;
    }
  }
  return text.size();
}

}  // namespace gatewright

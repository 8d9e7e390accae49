#include "gatewright/text/word_piece.h"

#include "gatewright/base/error.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

int64_t characters(std::string_view text) {
  int64_t count = 0;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end; at += decode_utf8(at, end).size) ++count;
  return count;
}

}  // namespace

WordPiece::WordPiece(const TokenizerDefinition& definition, std::string_view what)
    : longest_word_(definition.longest_word) {
  require(definition.unknown.has_value(), "{}: a WordPiece vocabulary needs an unknown token", what);
  unknown_ = *definition.unknown;
  // Every token can be met, control tokens too: the cut of the text before keeps them apart.
  std::vector<PrefixIndex::Entry> beginning, continuing;
  const std::string& prefix = definition.continuing_prefix;
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string_view token = definition.tokens[id];
    beginning.push_back({token, static_cast<int32_t>(id)});
    if (token.size() > prefix.size() && token.starts_with(prefix))
      continuing.push_back({token.substr(prefix.size()), static_cast<int32_t>(id)});
  }
  beginning_ = PrefixIndex(std::move(beginning));
  continuing_ = PrefixIndex(std::move(continuing));
}

void WordPiece::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  if (characters(word) > longest_word_) return out.push_back(unknown_);
  const size_t before = out.size();
  for (size_t at = 0; at < word.size();) {
    const PrefixIndex::Match match = (at == 0 ? beginning_ : continuing_).longest(word.substr(at));
    if (match.size == 0) {
      out.resize(before);
      return out.push_back(unknown_);
    }
    out.push_back(match.value);
    at += match.size;
  }
}

}  // namespace gatewright

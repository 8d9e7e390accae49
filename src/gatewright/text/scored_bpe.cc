#include "gatewright/text/scored_bpe.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

/// The place of each token in the order of falling scores; equal scores share a place.
std::vector<int32_t> ranks_of(const std::vector<double>& scores) {
  std::vector<double> different = scores;
  std::ranges::sort(different, std::greater{});
  different.erase(std::unique(different.begin(), different.end()), different.end());
  std::vector<int32_t> ranks;
  ranks.reserve(scores.size());
  for (const double score : scores)
    ranks.push_back(
        static_cast<int32_t>(std::ranges::lower_bound(different, score, std::greater{}) - different.begin()));
  return ranks;
}

}  // namespace

void check_scores(const TokenizerDefinition& definition, std::string_view what) {
  require(definition.scores.size() == definition.tokens.size(), "{}: {} scores for {} tokens", what,
          definition.scores.size(), definition.tokens.size());
  for (size_t id = 0; id < definition.scores.size(); ++id)
    require(std::isfinite(definition.scores[id]), "{}: the score of token {} is {}", what, id,
            definition.scores[id]);
}

ScoredBpe::ScoredBpe(const TokenizerDefinition& definition, std::string_view what)
    : fuse_unknown_(definition.fuse_unknown), unknown_(definition, what) {
  check_scores(definition, what);
  const AddedIds ids(definition);
  const std::vector<int32_t> ranks = ranks_of(definition.scores);
  tokens_.reserve(definition.tokens.size());
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string& token = definition.tokens[id];
    if (ids.special[id] || (definition.byte_fallback && byte_of_name(token))) continue;
    tokens_.emplace(token, Token{static_cast<int32_t>(id), ranks[id]});
    longest_ = std::max(longest_, token.size());
  }
  for (size_t code = 0; code < ascii_.size(); ++code) {
    const char c = static_cast<char>(code);
    const auto found = tokens_.find({&c, 1});
    ascii_[code] = found == tokens_.end() ? -1 : found->second.id;
  }
  find_pairs();
}

void ScoredBpe::find_pairs() {
  pairs_ = PairTable<RankedMerge>(2 * tokens_.size());
  for (const auto& [text, token] : tokens_) {
    if (text.size() > kPairedBytes) continue;
    for (size_t at = 1; at < text.size(); ++at) {
      const auto left = tokens_.find(text.substr(0, at));
      if (left == tokens_.end()) continue;
      const auto right = tokens_.find(text.substr(at));
      if (right == tokens_.end()) continue;
      pairs_.insert(left->second.id, right->second.id, {.rank = token.rank, .result = token.id});
    }
  }
}

FirstToken ScoredBpe::first(std::string_view word, uint32_t place) const {
  const auto byte = static_cast<uint8_t>(word[place]);
  if (byte < 0x80) return {ascii_[byte], 1};
  const Utf8Character c = decode_utf8(word.data() + place, word.data() + word.size());
  const auto found = tokens_.find(word.substr(place, c.size));
  return {found == tokens_.end() ? -1 : found->second.id, c.size};
}

RankedMerge ScoredBpe::by_text(std::string_view joined) const {
  if (joined.size() > longest_) return {};
  const auto found = tokens_.find(joined);
  if (found == tokens_.end()) return {};
  return {.rank = found->second.rank, .result = found->second.id};
}

void ScoredBpe::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  TokenSink sink(unknown_, fuse_unknown_, out);
  MergeLoop<ScoredBpe>::run(*this, word, [&](int32_t id, std::string_view text) { sink.add(id, text); });
  sink.flush();
}

}  // namespace gatewright

#include "gatewright/text/unigram.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/text/scored_bpe.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kLongestWord = size_t{1} << 30;

/// How a place of the word is reached best.
struct UnigramStep {
  double score = -std::numeric_limits<double>::infinity();
  uint32_t begin = 0;
  int32_t id = -1;
};

}  // namespace

Unigram::Unigram(const TokenizerDefinition& definition, std::string_view what)
    : scores_(definition.scores), fuse_unknown_(definition.fuse_unknown), unknown_(definition, what) {
  check_scores(definition, what);
  const AddedIds ids(definition);
  std::vector<PrefixIndex::Entry> entries;
  double lowest = 0;
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string& token = definition.tokens[id];
    lowest = id == 0 ? scores_[id] : std::min(lowest, scores_[id]);
    if (ids.special[id] || (definition.byte_fallback && byte_of_name(token))) continue;
    entries.push_back({token, static_cast<int32_t>(id)});
  }
  tokens_ = PrefixIndex(std::move(entries));
  unknown_score_ = lowest - kUnknownPenalty;
}

void Unigram::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  require(word.size() <= kLongestWord, "cannot encode a word of {} bytes: the limit is {}", word.size(),
          kLongestWord);
  std::vector<UnigramStep> best(word.size() + 1);
  best[0].score = 0;
  const auto reach = [&best](size_t end, double score, size_t begin, int32_t id) {
    if (score > best[end].score) best[end] = {score, static_cast<uint32_t>(begin), id};
  };
  const char* const end = word.data() + word.size();
  for (size_t at = 0; at < word.size();) {
    const size_t size = decode_utf8(word.data() + at, end).size;
    bool alone = false;
    tokens_.each(word.substr(at), [&](size_t length, int32_t id) {
      reach(at + length, best[at].score + scores_[static_cast<size_t>(id)], at, id);
      alone |= length == size;
    });
    if (!alone) reach(at + size, best[at].score + unknown_score_, at, -1);
    at += size;
  }
  std::vector<UnigramStep> path;
  for (size_t at = word.size(); at > 0; at = path.back().begin) path.push_back(best[at]);
  TokenSink sink(unknown_, fuse_unknown_, out);
  for (size_t i = path.size(), at = 0; i > 0; --i) {
    const size_t next = i > 1 ? path[i - 2].begin : word.size();
    sink.add(path[i - 1].id, word.substr(at, next - at));
    at = next;
  }
  sink.flush();
}

}  // namespace gatewright

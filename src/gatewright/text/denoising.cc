#include "gatewright/text/denoising.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

/// Inputs and targets of `known` followed by `asked`.
DenoisedText asked_after(std::span<const int32_t> known, std::span<const int32_t> asked) {
  DenoisedText result;
  result.tokens.assign(known.begin(), known.end());
  result.tokens.insert(result.tokens.end(), asked.begin(), asked.end() - 1);
  result.targets.assign(result.tokens.size(), -1);
  std::copy(asked.begin(), asked.end(), result.targets.end() - static_cast<std::ptrdiff_t>(asked.size()));
  return result;
}

/// How a text of so many tokens is cut.
struct Cut {
  int64_t tokens, removed, spans;
};

Cut cut_of(int64_t tokens, const SpanRule& rule) {
  const auto share = static_cast<int64_t>(std::llround(static_cast<double>(tokens) * rule.rate));
  int64_t removed = std::clamp<int64_t>(share, 1, tokens - 1);
  const auto spans = static_cast<int64_t>(std::llround(static_cast<double>(removed) / rule.mean_length));
  // Every span has a token before it, and a sentinel; the last sentinel ends the answer.
  const int64_t most = std::min({removed, tokens - removed, rule.num_sentinels - 1});
  return {.tokens = tokens, .removed = removed, .spans = std::clamp<int64_t>(spans, 1, most)};
}

/// The most tokens of the text whose rewritten form has `room` inputs: every span costs two sentinels, the
/// end one, and the last token is a target only.
Cut largest_cut(int64_t tokens, int64_t room, const SpanRule& rule) {
  Cut cut = cut_of(tokens, rule);
  while (cut.tokens > 2 && cut.tokens + 2 * cut.spans > room) cut = cut_of(cut.tokens - 1, rule);
  return cut;
}

/// `total` as a sum of `parts` positive numbers, every such sum as likely as any other.
std::vector<int64_t> random_parts(int64_t total, int64_t parts, RandomStream& random) {
  std::vector<int64_t> places(static_cast<size_t>(total - 1));
  std::iota(places.begin(), places.end(), int64_t{1});
  random.shuffle(std::span(places));
  places.resize(static_cast<size_t>(parts - 1));
  std::ranges::sort(places);
  places.push_back(total);
  std::vector<int64_t> lengths;
  int64_t before = 0;
  for (int64_t place : places) {
    lengths.push_back(place - before);
    before = place;
  }
  return lengths;
}

}  // namespace

DenoisedText with_asked_end(std::span<const int32_t> text, double rate) {
  require(text.size() >= 2, "a text of {} tokens has nothing to ask for", text.size());
  const auto targets = static_cast<double>(text.size() - 1);
  const auto asked =
      std::clamp<size_t>(static_cast<size_t>(std::llround(targets * rate)), 1, text.size() - 1);
  return asked_after(text.first(text.size() - asked), text.last(asked));
}

DenoisedText with_asked_spans(std::span<const int32_t> text, const SpanRule& rule, RandomStream& random) {
  require(text.size() >= 2, "a text of {} tokens has nothing to ask for", text.size());
  require(rule.mean_length >= 1 && rule.rate > 0 && rule.rate < 1 && rule.num_sentinels >= 2,
          "spans have a mean length of at least 1, a rate in (0, 1) and at least 2 sentinels; got {}, {}, {}",
          rule.mean_length, rule.rate, rule.num_sentinels);
  const auto room = static_cast<int64_t>(text.size()) - 1;
  constexpr int64_t kLeast = 4;  // two tokens, one of them removed, and two sentinels
  if (room < kLeast) return with_asked_end(text, rule.rate);
  const Cut cut = largest_cut(static_cast<int64_t>(text.size()), room, rule);
  const std::vector<int64_t> kept = random_parts(cut.tokens - cut.removed, cut.spans, random),
                             removed = random_parts(cut.removed, cut.spans, random);
  std::vector<int32_t> known, asked;
  auto next = text.begin();
  int32_t sentinel = rule.first_sentinel;
  for (size_t s = 0; s < kept.size(); ++s) {
    known.insert(known.end(), next, next + kept[s]);
    next += kept[s];
    known.push_back(sentinel);
    asked.push_back(sentinel++);
    asked.insert(asked.end(), next, next + removed[s]);
    next += removed[s];
  }
  asked.push_back(sentinel);
  return asked_after(known, asked);
}

}  // namespace gatewright

#include "gatewright/routing/choice/selectors/ranked_capacity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

/// One choice of a token: its place among the pairs.
struct Choice {
  int32_t expert = 0;
  int64_t pair = 0;
};

/// Choices of the tokens [begin, end) by rank: [j][...] the j-th best of each token, in order of the tokens.
std::vector<std::vector<Choice>> by_rank(const Rows& rows, const ScoreRows& scores, int64_t begin,
                                         int64_t end) {
  std::vector<std::vector<Choice>> result;
  std::vector<Choice> mine;
  for (int64_t t = begin; t < end; ++t) {
    mine.clear();
    const auto row = rows.row(t);
    for (size_t i = 0; i < row.size(); ++i)
      mine.push_back({row[i], rows.row_begin[static_cast<size_t>(t)] + static_cast<int64_t>(i)});
    const std::span<const float> score = scores.row(t);
    std::ranges::stable_sort(mine, [&](const Choice& a, const Choice& b) {
      return score[static_cast<size_t>(a.expert)] > score[static_cast<size_t>(b.expert)];
    });
    result.resize(std::max(result.size(), mine.size()));
    for (size_t j = 0; j < mine.size(); ++j) result[j].push_back(mine[j]);
  }
  return result;
}

/// The pairs of `rows` with `kept`.
Rows kept_rows(const Rows& rows, const std::vector<bool>& kept) {
  Rows result;
  for (int64_t t = 0; t < rows.num_tokens(); ++t) {
    for (int64_t i = rows.row_begin[static_cast<size_t>(t)]; i < rows.row_begin[static_cast<size_t>(t) + 1];
         ++i) {
      if (kept[static_cast<size_t>(i)]) result.expert.push_back(rows.expert[static_cast<size_t>(i)]);
    }
    result.row_begin.push_back(static_cast<int64_t>(result.expert.size()));
  }
  return result;
}

}  // namespace

int64_t ranked_capacity(double factor, int64_t pairs, int64_t num_experts, int64_t minimum) {
  require(factor > 0, "[ranked_capacity] factor must be more than 0, got {}", factor);
  require(num_experts >= 2, "[ranked_capacity] a capacity limit needs at least 2 experts, got {}",
          num_experts);
  const auto room = static_cast<int64_t>(
      std::floor(factor * static_cast<double>(pairs) / static_cast<double>(num_experts)));
  return std::max(room + room % 2, minimum);
}

RankedCapacity::RankedCapacity(std::unique_ptr<Selector> inner, const RankedCapacityOptions& options)
    : inner_(std::move(inner)), options_(options) {
  require(options.factor > 0, "[ranked_capacity] factor must be more than 0, got {}", options.factor);
  require(options.evaluation_factor >= 0, "[ranked_capacity] evaluation_factor must not be negative, got {}",
          options.evaluation_factor);
  require(options.minimum >= 1, "[ranked_capacity] minimum must be at least 1, got {}", options.minimum);
}

Selection RankedCapacity::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  Selection chosen = inner_->choose(scores, context);
  const double factor = context.training ? options_.factor : options_.evaluation_factor;
  if (factor == 0 || scores.num_tokens == 0) return chosen;
  const int64_t groups = options_.by_sequence ? context.num_sequences : 1;
  require(groups >= 1 && scores.num_tokens % groups == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, scores.num_tokens,
          groups);
  const int64_t length = scores.num_tokens / groups;
  const Rows& rows = chosen.rows;
  std::vector<bool> kept(rows.expert.size());
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * length, end = begin + length;
    const int64_t pairs =
        rows.row_begin[static_cast<size_t>(end)] - rows.row_begin[static_cast<size_t>(begin)];
    const int64_t room = ranked_capacity(factor, pairs, scores.num_experts, options_.minimum);
    std::vector<int64_t> asked(static_cast<size_t>(scores.num_experts));
    for (const std::vector<Choice>& choices : by_rank(rows, scores, begin, end)) {
      for (const Choice& c : choices)
        kept[static_cast<size_t>(c.pair)] = asked[static_cast<size_t>(c.expert)]++ < room;
    }
  }
  Rows left = kept_rows(rows, kept);
  if (!chosen.before_capacity) chosen.before_capacity = std::move(chosen.rows);
  chosen.rows = std::move(left);
  return chosen;
}

std::vector<double> dropped_by_position(const Selection& selection, int64_t num_sequences, int64_t parts) {
  const Rows& after = selection.rows;
  const Rows& before = selection.before_capacity ? *selection.before_capacity : after;
  const int64_t num_tokens = before.num_tokens();
  require(num_sequences >= 1 && parts >= 1 && num_tokens % num_sequences == 0,
          "{} tokens are not {} sequences of equal length", num_tokens, num_sequences);
  const int64_t length = num_tokens / num_sequences;
  std::vector<double> chosen(static_cast<size_t>(parts)), kept(static_cast<size_t>(parts));
  for (int64_t t = 0; t < num_tokens; ++t) {
    const auto part = static_cast<size_t>(t % length * parts / length);
    chosen[part] += static_cast<double>(before.row(t).size());
    kept[part] += static_cast<double>(after.row(t).size());
  }
  for (size_t i = 0; i < chosen.size(); ++i)
    chosen[i] = chosen[i] > 0 ? 1 - kept[i] / chosen[i] : std::numeric_limits<double>::quiet_NaN();
  return chosen;
}

}  // namespace gatewright::choice

#include "gatewright/routing/choice/selectors/decorators.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

std::span<const int64_t> tokens_of(const Pairs& pairs, int64_t expert) {
  const auto e = static_cast<size_t>(expert);
  return std::span(pairs.token)
      .subspan(static_cast<size_t>(pairs.expert_begin[e]),
               static_cast<size_t>(pairs.expert_begin[e + 1] - pairs.expert_begin[e]));
}

/// The `limit` tokens that score highest for the expert, ascending; ties to the earlier token.
std::vector<int64_t> best_of(std::span<const int64_t> tokens, const ScoreRows& scores, int64_t expert,
                             int64_t limit) {
  std::vector<int64_t> best(tokens.begin(), tokens.end());
  const auto score = [&](int64_t t) { return scores.row(t)[static_cast<size_t>(expert)]; };
  std::nth_element(best.begin(), best.begin() + limit, best.end(), [&](int64_t a, int64_t b) {
    return score(a) > score(b) || (score(a) == score(b) && a < b);
  });
  best.resize(static_cast<size_t>(limit));
  std::ranges::sort(best);
  return best;
}

/// At most `limit` pairs of each expert.
Pairs limited(const Pairs& pairs, const ScoreRows& scores, int64_t limit, Overflow overflow) {
  Pairs kept{.num_tokens = pairs.num_tokens, .expert_begin = {0}, .token = {}};
  kept.token.reserve(pairs.token.size());
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    const auto tokens = tokens_of(pairs, e);
    if (static_cast<int64_t>(tokens.size()) <= limit) {
      kept.token.insert(kept.token.end(), tokens.begin(), tokens.end());
    } else if (overflow == Overflow::kDropByScore) {
      const std::vector<int64_t> best = best_of(tokens, scores, e, limit);
      kept.token.insert(kept.token.end(), best.begin(), best.end());
    } else {
      kept.token.insert(kept.token.end(), tokens.begin(), tokens.begin() + limit);
    }
    kept.expert_begin.push_back(kept.size());
  }
  return kept;
}

void append_row(Rows& rows, std::vector<int32_t>& experts) {
  std::ranges::sort(experts);
  rows.expert.insert(rows.expert.end(), experts.begin(), experts.end());
  rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
}

/// What is left of `chosen` in `kept`, and for each pair that is missing the token's best expert that has
/// room and was not chosen already.
Rows rerouted(const Rows& chosen, const Pairs& kept, const ScoreRows& scores, int64_t limit) {
  std::vector<int64_t> room(static_cast<size_t>(kept.num_experts()));
  for (int64_t e = 0; e < kept.num_experts(); ++e)
    room[static_cast<size_t>(e)] = limit - static_cast<int64_t>(tokens_of(kept, e).size());
  const Rows kept_rows = by_token(kept);
  Rows result;
  for (int64_t t = 0; t < chosen.num_tokens(); ++t) {
    const auto kept_row = kept_rows.row(t);
    std::vector<int32_t> experts(kept_row.begin(), kept_row.end());
    const size_t wanted = chosen.row(t).size();
    if (experts.size() < wanted) {
      for (int32_t e : best_experts(scores.row(t), scores.num_experts)) {
        if (room[static_cast<size_t>(e)] == 0 || std::ranges::find(kept_row, e) != kept_row.end()) continue;
        experts.push_back(e);
        --room[static_cast<size_t>(e)];
        if (experts.size() == wanted) break;
      }
    }
    append_row(result, experts);
  }
  return result;
}

}  // namespace

Capacity::Capacity(std::unique_ptr<Selector> inner, double factor, Overflow overflow)
    : inner_(std::move(inner)), factor_(factor), overflow_(overflow) {
  require(factor > 0, "[capacity] factor must be more than 0, got {}", factor);
}

Selection Capacity::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  Selection chosen = inner_->choose(scores, context);
  const Pairs pairs = by_expert(chosen.rows, scores.num_experts);
  const int64_t limit = ceil_share(factor_, pairs.size(), scores.num_experts);
  const Pairs kept = limited(pairs, scores, limit, overflow_);
  if (overflow_ == Overflow::kReroute)
    return {.rows = rerouted(chosen.rows, kept, scores, limit), .before_capacity = {}};
  if (!chosen.before_capacity) chosen.before_capacity = std::move(chosen.rows);
  return {.rows = by_token(kept), .before_capacity = std::move(chosen.before_capacity)};
}

Force::Force(std::unique_ptr<Selector> inner, std::vector<int32_t> experts, bool add)
    : inner_(std::move(inner)), experts_(std::move(experts)), add_(add) {
  std::ranges::sort(experts_);
  require(std::ranges::adjacent_find(experts_) == experts_.end(), "[force] an expert is given twice");
  require(experts_.empty() || experts_.front() >= 0, "[force] expert {} does not exist",
          experts_.empty() ? 0 : experts_.front());
}

std::vector<int32_t> Force::force_row(std::span<const float> scores, std::span<const int32_t> chosen) const {
  std::vector<int32_t> result;
  for (int32_t e : experts_) {
    if (scores[static_cast<size_t>(e)] != kMasked) result.push_back(e);
  }
  std::vector<int32_t> others;
  for (int32_t e : chosen) {
    if (!std::ranges::binary_search(result, e)) others.push_back(e);
  }
  std::ranges::stable_sort(others, [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  const size_t places = std::max(chosen.size(), result.size()) - result.size();
  if (!add_) others.resize(std::min(others.size(), places));
  result.insert(result.end(), others.begin(), others.end());
  return result;
}

Rows Force::force(const ScoreRows& scores, const Rows& chosen) const {
  Rows result;
  for (int64_t t = 0; t < scores.num_tokens; ++t) {
    std::vector<int32_t> experts = force_row(scores.row(t), chosen.row(t));
    append_row(result, experts);
  }
  return result;
}

Selection Force::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  const Selection chosen = inner_->choose(scores, context);
  require(experts_.empty() || experts_.back() < scores.num_experts,
          "[force] there is no expert {} in layer {}; the experts are 0 to {}",
          experts_.empty() ? 0 : experts_.back(), context.layer, scores.num_experts - 1);
  Selection result{.rows = force(scores, chosen.rows)};
  if (chosen.before_capacity) result.before_capacity = force(scores, *chosen.before_capacity);
  return result;
}

}  // namespace gatewright::choice

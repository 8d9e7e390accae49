#include "gatewright/routing/choice/selectors/decorators.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

/// kept[i] of the pairs by expert: at most `limit` of each.
std::vector<bool> keep_by_position(const Pairs& pairs, int64_t limit) {
  std::vector<bool> kept(pairs.token.size());
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    const int64_t begin = pairs.expert_begin[static_cast<size_t>(e)];
    const int64_t end = std::min(pairs.expert_begin[static_cast<size_t>(e) + 1], begin + limit);
    for (int64_t i = begin; i < end; ++i) kept[static_cast<size_t>(i)] = true;
  }
  return kept;
}

std::vector<bool> keep_by_score(const Pairs& pairs, const ScoreRows& scores, int64_t limit) {
  std::vector<bool> kept(pairs.token.size());
  std::vector<int64_t> order;
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    order.clear();
    for (int64_t i = pairs.expert_begin[static_cast<size_t>(e)];
         i < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++i)
      order.push_back(i);
    const auto score = [&](int64_t i) {
      return scores.row(pairs.token[static_cast<size_t>(i)])[static_cast<size_t>(e)];
    };
    std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return score(a) > score(b); });
    for (int64_t i = 0; i < std::min<int64_t>(limit, static_cast<int64_t>(order.size())); ++i) {
      kept[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
    }
  }
  return kept;
}

/// Experts of each token as a list that can be edited.
using Lists = std::vector<std::vector<int32_t>>;

Rows to_rows(Lists& lists) {
  Rows rows;
  for (auto& list : lists) {
    std::ranges::sort(list);
    rows.expert.insert(rows.expert.end(), list.begin(), list.end());
    rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
  }
  return rows;
}

/// Sends each dropped pair to the token's best expert that has room and was not chosen already.
void reroute(const Pairs& pairs, const std::vector<bool>& kept, const ScoreRows& scores, int64_t limit,
             Lists& lists) {
  std::vector<int64_t> load(static_cast<size_t>(pairs.num_experts()));
  std::vector<int64_t> dropped(static_cast<size_t>(pairs.num_tokens));
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    for (int64_t i = pairs.expert_begin[static_cast<size_t>(e)];
         i < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++i) {
      if (kept[static_cast<size_t>(i)])
        ++load[static_cast<size_t>(e)];
      else
        ++dropped[static_cast<size_t>(pairs.token[static_cast<size_t>(i)])];
    }
  }
  for (int64_t t = 0; t < pairs.num_tokens; ++t) {
    if (dropped[static_cast<size_t>(t)] == 0) continue;
    auto& mine = lists[static_cast<size_t>(t)];
    for (int32_t e : best_experts(scores.row(t), scores.num_experts)) {
      if (dropped[static_cast<size_t>(t)] == 0) break;
      if (load[static_cast<size_t>(e)] >= limit || std::ranges::find(mine, e) != mine.end()) continue;
      mine.push_back(e);
      ++load[static_cast<size_t>(e)];
      --dropped[static_cast<size_t>(t)];
    }
  }
}

}  // namespace

Capacity::Capacity(std::unique_ptr<Selector> inner, double factor, Overflow overflow)
    : inner_(std::move(inner)), factor_(factor), overflow_(overflow) {
  require(factor > 0, "[capacity] factor must be more than 0, got {}", factor);
}

Selection Capacity::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  Selection chosen = inner_->choose(scores, context);
  const Pairs pairs = by_expert(chosen.rows, scores.num_experts);
  const auto limit = static_cast<int64_t>(
      std::ceil(factor_ * static_cast<double>(pairs.size()) / static_cast<double>(scores.num_experts)));
  const std::vector<bool> kept = overflow_ == Overflow::kDropByScore ? keep_by_score(pairs, scores, limit)
                                                                     : keep_by_position(pairs, limit);
  Lists lists(static_cast<size_t>(scores.num_tokens));
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    for (int64_t i = pairs.expert_begin[static_cast<size_t>(e)];
         i < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++i) {
      if (kept[static_cast<size_t>(i)])
        lists[static_cast<size_t>(pairs.token[static_cast<size_t>(i)])].push_back(static_cast<int32_t>(e));
    }
  }
  if (overflow_ == Overflow::kReroute) {
    reroute(pairs, kept, scores, limit, lists);
    return {.rows = to_rows(lists), .before_capacity = {}};
  }
  return {.rows = to_rows(lists), .before_capacity = std::move(chosen.rows)};
}

Force::Force(std::unique_ptr<Selector> inner, std::vector<int32_t> experts, bool add)
    : inner_(std::move(inner)), experts_(std::move(experts)), add_(add) {
  std::ranges::sort(experts_);
  require(std::ranges::adjacent_find(experts_) == experts_.end(), "[force] an expert is given twice");
  require(experts_.empty() || experts_.front() >= 0, "[force] expert {} does not exist",
          experts_.empty() ? 0 : experts_.front());
}

std::vector<int32_t> Force::force_row(std::span<const float> scores, std::span<const int32_t> chosen) const {
  std::vector<int32_t> others;
  for (int32_t e : chosen) {
    if (!std::ranges::binary_search(experts_, e)) others.push_back(e);
  }
  const size_t wanted = add_ ? chosen.size() + experts_.size() : std::max(chosen.size(), experts_.size());
  const size_t room = wanted - experts_.size();
  std::ranges::stable_sort(others, [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  others.resize(std::min(others.size(), room));
  others.insert(others.end(), experts_.begin(), experts_.end());
  return others;
}

Selection Force::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  require(experts_.empty() || experts_.back() < scores.num_experts,
          "[force] expert {} does not exist in layer {}, which has {}",
          experts_.empty() ? 0 : experts_.back(), context.layer, scores.num_experts);
  const Selection chosen = inner_->choose(scores, context);
  Lists lists(static_cast<size_t>(scores.num_tokens));
  for (int64_t t = 0; t < scores.num_tokens; ++t)
    lists[static_cast<size_t>(t)] = force_row(scores.row(t), chosen.rows.row(t));
  return {.rows = to_rows(lists), .before_capacity = {}};
}

}  // namespace gatewright::choice

#include "gatewright/routing/choice/selectors/row_selectors.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/kernels/cpu/kth_largest.h"

namespace gatewright::choice {
namespace {}  // namespace

TopK::TopK(int64_t k) : k_(k) { require(k >= 1, "[top_k] top_k must be at least 1, got {}", k); }

void TopK::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  append_best(scores, k_, chosen);
}

void TopK::choose_rows(const ScoreRows& rows, std::vector<int32_t>& chosen, std::span<int64_t> counts) const {
  if (k_ > kernels::kLargestK) return RowSelector::choose_rows(rows, chosen, counts);
  std::vector<float> least(static_cast<size_t>(rows.num_tokens));
  kernels::kth_largest(rows.values.data(), rows.num_tokens, rows.num_experts, k_, least.data());
  for (size_t t = 0; t < least.size(); ++t) {
    const size_t before = chosen.size();
    append_at_least(rows.row(static_cast<int64_t>(t)), least[t], k_, chosen);
    counts[t] = static_cast<int64_t>(chosen.size() - before);
  }
}

TopP::TopP(double p, int64_t min_experts, int64_t max_experts)
    : p_(p == 1 ? std::numeric_limits<double>::infinity() : p),
      min_experts_(min_experts),
      max_experts_(max_experts) {
  require(p > 0 && p <= 1, "[top_p] p must lie in (0, 1], got {}", p);
  require(min_experts >= 0 && max_experts >= 0, "[top_p] min_experts and max_experts must not be negative");
  require(max_experts == 0 || max_experts >= min_experts,
          "[top_p] max_experts {} is less than min_experts {}", max_experts, min_experts);
}

void TopP::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  const auto worse = [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x < y || (x == y && a > b);
  };
  std::vector<int32_t> heap;  // the best expert first: few are taken, so that a whole sort would be wasted
  heap.reserve(scores.size());
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] != kMasked) heap.push_back(static_cast<int32_t>(e));
  }
  std::ranges::make_heap(heap, worse);
  const auto limit = max_experts_ == 0 ? static_cast<int64_t>(scores.size()) : max_experts_;
  double sum = 0;
  for (int64_t count = 0; count < limit && !heap.empty() && (sum <= p_ || count < min_experts_); ++count) {
    std::ranges::pop_heap(heap, worse);
    sum += scores[static_cast<size_t>(heap.back())];
    chosen.push_back(heap.back());
    heap.pop_back();
  }
}

MinP::MinP(double ratio) : ratio_(static_cast<float>(ratio)) {
  require(ratio > 0 && ratio <= 1, "[min_p] min_p must be in (0, 1], got {}", ratio);
}

void MinP::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  const float best = *std::ranges::max_element(scores);
  if (best == kMasked) return;
  const float least = std::min(best, ratio_ * best);  // below zero (logits, biased scores): the best alone
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] >= least) chosen.push_back(static_cast<int32_t>(e));
  }
}

Threshold::Threshold(double threshold, int64_t min_experts)
    : threshold_(static_cast<float>(threshold)), min_experts_(min_experts) {
  require(std::isfinite(threshold), "[threshold] threshold must be finite, got {}", threshold);
  require(min_experts >= 0, "[threshold] min_experts must not be negative, got {}", min_experts);
}

void Threshold::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  const size_t before = chosen.size();
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] > threshold_) chosen.push_back(static_cast<int32_t>(e));
  }
  if (static_cast<int64_t>(chosen.size() - before) >= min_experts_) return;
  chosen.resize(before);
  append_best(scores, min_experts_, chosen);
}

void ReluSelector::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] > 0) chosen.push_back(static_cast<int32_t>(e));
  }
}

void All::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] != kMasked) chosen.push_back(static_cast<int32_t>(e));
  }
}

GroupLimitedTopK::GroupLimitedTopK(int64_t k, int64_t num_groups, int64_t groups_used, GroupScore group_score)
    : k_(k), num_groups_(num_groups), groups_used_(groups_used), group_score_(group_score) {
  require(k >= 1, "[group_limited_top_k] top_k must be at least 1, got {}", k);
  require(groups_used >= 1 && groups_used <= num_groups,
          "[group_limited_top_k] groups_used must be in [1, {}], got {}", num_groups, groups_used);
}

void check_groups(int64_t num_experts, int64_t num_groups) {
  require(num_experts % num_groups == 0,
          "[group_limited_top_k] {} experts cannot be cut into {} equal groups", num_experts, num_groups);
}

void GroupLimitedTopK::choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const {
  check_groups(static_cast<int64_t>(scores.size()), num_groups_);
  const auto num_groups = static_cast<size_t>(num_groups_);
  const size_t size = scores.size() / num_groups;
  std::vector<float> group_scores(num_groups, kMasked);
  for (size_t g = 0; g < num_groups; ++g) {
    const auto group = scores.subspan(g * size, size);
    const std::vector<int32_t> best = best_experts(group, group_score_ == GroupScore::kBest ? 1 : 2);
    if (best.empty()) continue;
    group_scores[g] = 0;
    for (int32_t e : best) group_scores[g] += group[static_cast<size_t>(e)];
  }
  std::vector<float> allowed(scores.size(), kMasked);
  for (int32_t g : best_experts(group_scores, groups_used_)) {
    const size_t begin = static_cast<size_t>(g) * size;
    std::copy_n(scores.begin() + static_cast<std::ptrdiff_t>(begin), size,
                allowed.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  append_best(allowed, k_, chosen);
}

}  // namespace gatewright::choice

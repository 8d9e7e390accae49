#include "gatewright/routing/choice/selector.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"

namespace gatewright::choice {
namespace {

constexpr int64_t kRowsPerThread = 64;

}  // namespace

std::vector<int32_t> best_experts(std::span<const float> scores, int64_t limit) {
  std::vector<int32_t> order;
  order.reserve(scores.size());
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] != kMasked) order.push_back(static_cast<int32_t>(e));
  }
  const auto better = [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto count = std::min<size_t>(order.size(), static_cast<size_t>(std::max<int64_t>(limit, 0)));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(), better);
  order.resize(count);
  return order;
}

void append_at_least(std::span<const float> scores, float least, int64_t k, std::vector<int32_t>& chosen) {
  const float allowed = std::max(least, std::numeric_limits<float>::lowest());  // never a masked expert
  const size_t before = chosen.size();
  chosen.resize(before + scores.size());
  int32_t* ids = chosen.data() + before;
  int64_t count = 0;
  for (size_t e = 0; e < scores.size(); ++e) {
    ids[count] = static_cast<int32_t>(e);  // kept when the count moves on: no branch to mispredict
    count += static_cast<int64_t>(scores[e] >= allowed);
  }
  chosen.resize(before + static_cast<size_t>(count));
  const auto is_tie = [&](int32_t e) { return scores[static_cast<size_t>(e)] == least; };
  for (int64_t i = count; i > k; --i) {  // of the experts with the last score the higher ids go
    const auto last = std::find_if(chosen.rbegin(), chosen.rend(), is_tie);
    chosen.erase(std::next(last).base());
  }
}

void append_best(std::span<const float> scores, int64_t k, std::vector<int32_t>& chosen) {
  constexpr int64_t kMostKept = 64;
  if (k <= 0) return;
  if (k > kMostKept) {
    std::vector<int32_t> best = best_experts(scores, k);
    std::ranges::sort(best);
    chosen.insert(chosen.end(), best.begin(), best.end());
    return;
  }
  // The k highest scores by falling value; most scores are below the last and cost one comparison.
  float kept[kMostKept];
  std::fill_n(kept, k, kMasked);
  for (const float score : scores) {
    if (!(score > kept[k - 1])) continue;
    int64_t place = k - 1;
    for (; place > 0 && kept[place - 1] < score; --place) kept[place] = kept[place - 1];
    kept[place] = score;
  }
  append_at_least(scores, kept[k - 1], k, chosen);
}

int64_t ceil_share(double factor, int64_t total, int64_t parts) {
  const double share = factor * static_cast<double>(total) / static_cast<double>(parts);
  return static_cast<int64_t>(std::ceil(share * (1 - 1e-12)));
}

void check_scores(const ScoreRows& scores, int64_t layer) {
  require(scores.num_experts >= 1, "layer {}: a router needs at least one expert, got {}", layer,
          scores.num_experts);
  require(scores.num_tokens >= 0 &&
              scores.values.size() == static_cast<size_t>(scores.num_tokens * scores.num_experts),
          "layer {}: {} scores were given for {} tokens and {} experts", layer, scores.values.size(),
          scores.num_tokens, scores.num_experts);
  const auto allowed = [](float x) { return x < std::numeric_limits<float>::infinity(); };  // NaN is not
  int damaged = 0;
  for (const float x : scores.values) damaged |= static_cast<int>(!allowed(x));
  if (damaged == 0) return;
  const auto at = std::ranges::find_if_not(scores.values, allowed) - scores.values.begin();
  fail(
      "layer {}: the router's score of token {} for expert {} is {}; the layer's input or the router's "
      "weights "
      "are damaged",
      layer, at / scores.num_experts, at % scores.num_experts,
      std::isnan(scores.values[static_cast<size_t>(at)]) ? "not a number" : "infinite");
}

void RowSelector::choose_rows(const ScoreRows& rows, std::vector<int32_t>& chosen,
                              std::span<int64_t> counts) const {
  for (int64_t t = 0; t < rows.num_tokens; ++t) {
    const auto before = static_cast<std::ptrdiff_t>(chosen.size());
    choose_row(rows.row(t), chosen);
    std::sort(chosen.begin() + before, chosen.end());
    counts[static_cast<size_t>(t)] = static_cast<int64_t>(chosen.size()) - before;
  }
}

Selection RowSelector::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  check_scores(scores, context.layer);
  const int64_t num_tokens = scores.num_tokens, width = scores.num_experts;
  // Each thread fills rows of its own range; the ranges are joined in order.
  const int64_t num_ranges =
      std::max<int64_t>(1, std::min<int64_t>(num_threads(), num_tokens / kRowsPerThread));
  const int64_t range = (num_tokens + num_ranges - 1) / num_ranges;
  std::vector<std::vector<int32_t>> experts(static_cast<size_t>(num_ranges));
  std::vector<int64_t> counts(static_cast<size_t>(num_tokens));
  parallel_for(0, num_ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t first = std::min(num_tokens, r * range), last = std::min(num_tokens, first + range);
      const auto cells = scores.values.subspan(static_cast<size_t>(first * width),
                                               static_cast<size_t>((last - first) * width));
      choose_rows({.values = cells, .num_tokens = last - first, .num_experts = width},
                  experts[static_cast<size_t>(r)],
                  std::span(counts).subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)));
    }
  });
  Selection result;
  result.rows.row_begin.resize(static_cast<size_t>(num_tokens) + 1);
  for (size_t t = 0; t < counts.size(); ++t)
    result.rows.row_begin[t + 1] = result.rows.row_begin[t] + counts[t];
  result.rows.expert = std::move(experts.front());
  for (size_t r = 1; r < experts.size(); ++r)
    result.rows.expert.insert(result.rows.expert.end(), experts[r].begin(), experts[r].end());
  return result;
}

std::vector<float> margins(const ScoreRows& scores, const Rows& rows) {
  std::vector<float> result(static_cast<size_t>(scores.num_tokens));
  parallel_for(0, scores.num_tokens, kRowsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto row = scores.row(t);
      float chosen = std::numeric_limits<float>::infinity(), other = kMasked;
      size_t next = 0;
      const auto ids = rows.row(t);
      for (size_t e = 0; e < row.size(); ++e) {
        if (next < ids.size() && ids[next] == static_cast<int32_t>(e)) {
          chosen = std::min(chosen, row[e]);
          ++next;
        } else {
          other = std::max(other, row[e]);
        }
      }
      const bool defined = !ids.empty() && other != kMasked;
      result[static_cast<size_t>(t)] = defined ? chosen - other : std::numeric_limits<float>::quiet_NaN();
    }
  });
  return result;
}

}  // namespace gatewright::choice

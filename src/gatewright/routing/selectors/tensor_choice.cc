#include "gatewright/routing/selectors/tensor_choice.h"

#include <limits>

#include "gatewright/routing/choice/selectors/batch_selectors.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright {
namespace {

Tensor eligible(const Tensor& scores) { return at::isneginf(scores).logical_not(); }

/// Places by falling score along `dim`, 0 the best; ties to the lower index (the sort is stable).
struct Order {
  Tensor sorted;  // scores by falling value
  Tensor rank;    // int64, the place of each entry
};

Order order(const Tensor& scores, int64_t dim) {
  auto [sorted, index] = at::sort(scores, /*stable=*/true, dim, /*descending=*/true);
  return {.sorted = sorted, .rank = at::argsort(index, dim)};
}

Tensor top_k(const Tensor& scores, int64_t k) {
  return (order(scores, -1).rank < k).logical_and(eligible(scores));
}

Tensor top_p(const Tensor& scores, double p, int64_t min_experts, int64_t max_experts) {
  const Order by_score = order(scores, -1);
  const Tensor values = by_score.sorted.masked_fill(at::isneginf(by_score.sorted), 0).to(at::kDouble);
  // An expert is taken while the ones before it have not yet exceeded p.
  const Tensor exceeds = (values.cumsum(-1) > p).to(at::kInt);
  const Tensor exceeded_before = exceeds.cumsum(-1) - exceeds;
  Tensor taken = (exceeded_before == 0).gather(-1, by_score.rank).logical_or(by_score.rank < min_experts);
  if (max_experts > 0) taken = taken.logical_and(by_score.rank < max_experts);
  return taken.logical_and(eligible(scores));
}

Tensor threshold(const Tensor& scores, double least, int64_t min_experts) {
  const Tensor above = scores > static_cast<float>(least);
  if (min_experts == 0) return above;
  const Tensor too_few = above.sum(-1, /*keepdim=*/true) < min_experts;
  return at::where(too_few, top_k(scores, min_experts), above);
}

Tensor min_p(const Tensor& scores, double ratio) {
  const Tensor best = scores.amax(-1, /*keepdim=*/true);
  return (scores >= at::minimum(best, best * static_cast<float>(ratio))).logical_and(eligible(scores));
}

Tensor group_limited(const Tensor& scores, int64_t k, int64_t num_groups, int64_t groups_used,
                     bool best_only) {
  choice::check_groups(scores.size(1), num_groups);
  const int64_t num_tokens = scores.size(0), size = scores.size(1) / num_groups;
  const Tensor groups = scores.view({num_tokens, num_groups, size});
  const Tensor best = std::get<0>(groups.topk(best_only ? 1 : std::min<int64_t>(2, size), -1));
  const Tensor none = at::isneginf(best).all(-1);
  const Tensor group_scores = best.masked_fill(at::isneginf(best), 0)
                                  .sum(-1)
                                  .masked_fill(none, -std::numeric_limits<float>::infinity());
  const Tensor allowed = top_k(group_scores, groups_used).unsqueeze(-1).expand_as(groups).reshape_as(scores);
  return top_k(scores.masked_fill(allowed.logical_not(), -std::numeric_limits<float>::infinity()), k);
}

Tensor expert_choice(const Tensor& scores, double experts_per_token) {
  const int64_t count =
      choice::ExpertChoice::tokens_per_expert(experts_per_token, scores.size(0), scores.size(1));
  return (order(scores, 0).rank < count).logical_and(eligible(scores));
}

}  // namespace

TensorChoice tensor_choice(std::string_view selector, const Values& v) {
  if (selector == "top_k") return [k = v.integer("top_k")](const Tensor& s) { return top_k(s, k); };
  if (selector == "top_p") {
    // Rounded probabilities can sum to more than 1; with p = 1 nothing does, as on plain rows.
    const double p = v.number("top_p") == 1 ? std::numeric_limits<double>::infinity() : v.number("top_p");
    return [p, least = v.integer("min_experts"), most = v.integer("max_experts")](const Tensor& s) {
      return top_p(s, p, least, most);
    };
  }
  if (selector == "min_p") return [ratio = v.number("min_p")](const Tensor& s) { return min_p(s, ratio); };
  if (selector == "threshold") {
    return [least = v.number("threshold"), count = v.integer("min_experts")](const Tensor& s) {
      return threshold(s, least, count);
    };
  }
  if (selector == "relu") return [](const Tensor& s) { return s > 0; };
  if (selector == "all") return eligible;
  if (selector == "expert_choice")
    return [n = v.number("experts_per_token")](const Tensor& s) { return expert_choice(s, n); };
  if (selector == "group_limited_top_k") {
    return [k = v.integer("top_k"), groups = v.integer("num_groups"), used = v.integer("groups_used"),
            best_only = v.text("group_score") == "best"](const Tensor& s) {
      return group_limited(s, k, groups, used, best_only);
    };
  }
  return {};
}

}  // namespace gatewright

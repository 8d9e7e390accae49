#include "gatewright/routing/choice/selectors/batch_selectors.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright::choice {
namespace {

/// The `count` tokens with the highest scores for one expert, ascending.
std::vector<int64_t> best_tokens(const ScoreRows& scores, int64_t expert, int64_t count) {
  const auto score = [&](int64_t t) {
    return scores.values[static_cast<size_t>(t * scores.num_experts + expert)];
  };
  std::vector<int64_t> order;
  for (int64_t t = 0; t < scores.num_tokens; ++t) {
    if (score(t) != kMasked) order.push_back(t);
  }
  const auto kept = static_cast<std::ptrdiff_t>(std::min<int64_t>(count, static_cast<int64_t>(order.size())));
  std::nth_element(order.begin(), order.begin() + kept, order.end(), [&](int64_t a, int64_t b) {
    return score(a) > score(b) || (score(a) == score(b) && a < b);
  });
  order.resize(static_cast<size_t>(kept));
  std::ranges::sort(order);
  return order;
}

}  // namespace

ExpertChoice::ExpertChoice(double experts_per_token) : experts_per_token_(experts_per_token) {
  require(experts_per_token > 0, "[expert_choice] experts_per_token must be more than 0, got {}",
          experts_per_token);
}

int64_t ExpertChoice::tokens_per_expert(double experts_per_token, int64_t num_tokens, int64_t num_experts) {
  return std::min(num_tokens, ceil_share(experts_per_token, num_tokens, num_experts));
}

Selection ExpertChoice::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  check_scores(scores, context.layer);
  const int64_t count = tokens_per_expert(experts_per_token_, scores.num_tokens, scores.num_experts);
  std::vector<std::vector<int64_t>> tokens(static_cast<size_t>(scores.num_experts));
  parallel_for(0, scores.num_experts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) tokens[static_cast<size_t>(e)] = best_tokens(scores, e, count);
  });
  Pairs pairs{.num_tokens = scores.num_tokens, .expert_begin = {0}, .token = {}};
  for (const auto& mine : tokens) {
    pairs.token.insert(pairs.token.end(), mine.begin(), mine.end());
    pairs.expert_begin.push_back(pairs.size());
  }
  return {.rows = by_token(pairs), .before_capacity = {}};
}

RandomSelector::RandomSelector(int64_t k) : k_(k) {
  require(k >= 1, "[random] top_k must be at least 1, got {}", k);
}

std::vector<float> random_keys(int64_t num_tokens, int64_t num_experts, RandomStream& random) {
  const uint64_t seed = random.next_u64();
  std::vector<float> keys(static_cast<size_t>(num_tokens * num_experts));
  parallel_for(0, num_tokens, 64, [&](int64_t begin, int64_t end) {
    RandomStream stream(seed, "choice");
    stream.seek(static_cast<uint64_t>(begin * num_experts));
    for (int64_t i = begin * num_experts; i < end * num_experts; ++i)
      keys[static_cast<size_t>(i)] = stream.uniform();
  });
  return keys;
}

Selection RandomSelector::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  require(context.random != nullptr, "layer {}: the selector random needs a random stream", context.layer);
  check_scores(scores, context.layer);
  std::vector<float> keys = random_keys(scores.num_tokens, scores.num_experts, *context.random);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (scores.values[i] == kMasked) keys[i] = kMasked;
  }
  return TopK(k_).choose({.values = keys, .num_tokens = scores.num_tokens, .num_experts = scores.num_experts},
                         context);
}

}  // namespace gatewright::choice

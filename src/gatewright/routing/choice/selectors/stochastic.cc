#include "gatewright/routing/choice/selectors/stochastic.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/routing/choice/selectors/batch_selectors.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright::choice {
namespace {

/// Tokens that share a draw: they stand one after another.
int64_t tokens_per_draw(DrawLevel level, const ScoreRows& scores, const ChoiceContext& context) {
  if (level == DrawLevel::kToken) return 1;
  if (level == DrawLevel::kBatch) return std::max<int64_t>(scores.num_tokens, 1);
  require(context.num_sequences > 0 && scores.num_tokens % context.num_sequences == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, scores.num_tokens,
          context.num_sequences);
  return std::max<int64_t>(scores.num_tokens / context.num_sequences, 1);
}

Selection best_of(const std::vector<float>& keys, int64_t k, const ScoreRows& scores,
                  const ChoiceContext& context) {
  return TopK(k).choose({.values = keys, .num_tokens = scores.num_tokens, .num_experts = scores.num_experts},
                        context);
}

}  // namespace

StochasticSelector::StochasticSelector(DrawLevel inference, int64_t fixed_expert)
    : inference_(inference), fixed_expert_(fixed_expert) {
  require(fixed_expert >= 0, "[stochastic] expert must be at least 0, got {}", fixed_expert);
}

void StochasticSelector::check_experts(int64_t num_experts) const {
  if (inference_ == DrawLevel::kFixed && fixed_expert_ >= num_experts)
    fail_usage("[stochastic] there is no expert {}; the experts are 0 to {}", fixed_expert_, num_experts - 1);
}

Selection StochasticSelector::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  check_scores(scores, context.layer);
  const DrawLevel level = context.training ? DrawLevel::kBatch : inference_;
  const int64_t width = scores.num_experts;
  std::vector<float> keys(scores.values.size(), level == DrawLevel::kFixed ? kMasked : 0.0f);
  if (level == DrawLevel::kFixed) {
    check_experts(width);
    for (int64_t t = 0; t < scores.num_tokens; ++t) keys[static_cast<size_t>(t * width + fixed_expert_)] = 0;
  } else if (level != DrawLevel::kEnsemble) {
    require(context.random != nullptr, "layer {}: the selector stochastic needs a random stream",
            context.layer);
    const int64_t shared = tokens_per_draw(level, scores, context);
    const int64_t draws = (scores.num_tokens + shared - 1) / shared;
    const std::vector<float> drawn = random_keys(draws, width, *context.random);
    for (int64_t t = 0; t < scores.num_tokens; ++t)
      std::copy_n(drawn.begin() + t / shared * width, width, keys.begin() + t * width);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    if (scores.values[i] == kMasked) keys[i] = kMasked;
  }
  return best_of(keys, level == DrawLevel::kEnsemble ? width : 1, scores, context);
}

}  // namespace gatewright::choice

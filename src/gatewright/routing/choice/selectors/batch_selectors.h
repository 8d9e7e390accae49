// Selectors whose choice for a token depends on more than its own scores.
#pragma once

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// Each expert takes the tokens that score highest for it, ceil(T x experts_per_token / E) of them (Zhou et
/// al. 2022, "Mixture-of-Experts with Expert Choice Routing"). Ties break to the earlier token. Not causal: a
/// token's experts depend on the tokens after it, and in generation on what else is in the batch.
class ExpertChoice final : public Selector {
 public:
  explicit ExpertChoice(double experts_per_token);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  bool looks_at_one_row() const override { return false; }
  /// Tokens that each of E experts takes out of T.
  static int64_t tokens_per_expert(double experts_per_token, int64_t num_tokens, int64_t num_experts);

 private:
  double experts_per_token_;
};

/// k different experts drawn uniformly for each token, whatever the scores (-inf aside): the baseline that
/// every router should beat, and THOR's training rule.
class RandomSelector final : public Selector {
 public:
  explicit RandomSelector(int64_t k);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  bool looks_at_one_row() const override { return false; }  // each place in the batch has its own draw

 private:
  int64_t k_;
};

/// Independent uniform keys in [0, 1) for [T, E], from one draw of the stream: the k highest keys of a row
/// are a uniform choice of k.
std::vector<float> random_keys(int64_t num_tokens, int64_t num_experts, RandomStream& random);

}  // namespace gatewright::choice

// Broadcast of uncertain tokens (Wu et al. 2024, "GW-MoE: Resolving Uncertainty in MoE Router with Global
// Workspace Theory"): in fine-tuning, tokens between whose experts the router can't decide visit all of them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// - sum_e p_e ln(p_e + 1e-5) of one token's distribution over experts, in nats. The addend makes it a hair
/// smaller: 2.0793615 and not ln 8 for a uniform choice among 8.
double uncertainty(std::span<const float> distribution);
/// What it can be at most with so many experts.
double largest_uncertainty(int64_t num_experts);

/// In training, tokens whose uncertainty is at least `threshold` visit every expert that is not masked,
/// weighted by their whole distribution; the first `slots` of them in each sequence, by position. All other
/// tokens, and all tokens outside training, go where the selector inside says. Padding is never broadcast.
/// Around a capacity limit, a broadcast token still takes the places of its ordinary choice, and balance
/// terms read the ordinary choices.
class Broadcast final : public Selector {
 public:
  Broadcast(std::unique_ptr<Selector> inner, double threshold, int64_t slots);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return inner_->reads(); }
  bool wants_distribution() const override { return true; }
  bool looks_at_one_row() const override { return inner_->looks_at_one_row(); }

 private:
  std::vector<int64_t> broadcast_tokens(const ScoreRows& scores, const ChoiceContext& context) const;

  std::unique_ptr<Selector> inner_;
  double threshold_;
  int64_t slots_;
};

}  // namespace gatewright::choice

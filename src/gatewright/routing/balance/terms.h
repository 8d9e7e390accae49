// The basic balance terms; the load-balancing loss has its own file, switch.h.
#pragma once

#include "gatewright/routing/balance.h"
#include "gatewright/routing/balance/step_counts.h"

namespace gatewright {

/// mean over tokens of logsumexp(logits)^2 (Zoph et al. 2022, ST-MoE, eq. 5): keeps logits small.
Tensor z_loss(const Tensor& logits);
class ZLoss final : public BalanceTerm {
 public:
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
};

/// Squared coefficient of variation of the experts' importance, the sum of their weights over the tokens
/// (Shazeer et al. 2017, eq. 6 and 7): variance / mean^2.
Tensor squared_coefficient_of_variation(const Tensor& importance);
class ImportanceLoss final : public BalanceTerm {
 public:
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
};

/// mean over tokens of the entropy of the probabilities, in nats; a positive weight makes routing sharper
/// (Huang et al. 2024, eq. 5), a negative one softer.
Tensor mean_entropy(const Tensor& probabilities);
class EntropyLoss final : public BalanceTerm {
 public:
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
};

/// No loss: a bias for each expert is added to its score for the choice only, and after each step goes up by
/// `rate` for experts below the mean load of the step, all its micro-batches and processes, and down for
/// those above (Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing"; DeepSeek-V3, section 2.1.2).
class LossFreeBias final : public BalanceTerm {
 public:
  LossFreeBias(double rate, int64_t num_experts);
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  void before_choice(Scores& scores) override;
  void end_step() override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  double rate_;
  Tensor bias_;  // [E]
  StepCounts counts_;
};

}  // namespace gatewright

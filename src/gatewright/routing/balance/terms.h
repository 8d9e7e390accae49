// The basic balance terms.
#pragma once

#include "gatewright/routing/balance.h"

namespace gatewright {

/// Over what the fraction of tokens of each expert is counted.
enum class BalanceScope { kMicroBatch, kSequence, kGlobalBatch };

/// E x sum_e f_e P_e, with f_e the fraction of tokens that visit expert e (counted, no gradient) and P_e the
/// mean probability of e (Fedus et al. 2021, Switch Transformers, eq. 4 to 6). With k experts a token f sums
/// to k, so that perfect balance gives k, as in Hugging Face's Mixtral and OLMoE. Over sequences: the mean of
/// each sequence's own loss. Over the global batch: f counts all micro-batches since the last optimiser step,
/// this one included (Qiu et al. 2025, "Demons in the Detail"). Probabilities are those of
/// distribution(scores).
Tensor switch_loss(const Tensor& fraction, const Tensor& mean_probability);

class SwitchBalance final : public BalanceTerm {
 public:
  explicit SwitchBalance(BalanceScope scope) : scope_(scope) {}
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  void end_step() override {
    counts_ = Tensor();
    tokens_ = 0;
  }

 private:
  BalanceScope scope_;
  Tensor counts_;  // [E] of the micro-batches of this step
  int64_t tokens_ = 0;
};

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
/// `rate` for experts below the mean load and down for those above (Wang et al. 2024, "Auxiliary-Loss-Free
/// Load Balancing"; DeepSeek-V3, section 2.1.2).
class LossFreeBias final : public BalanceTerm {
 public:
  LossFreeBias(double rate, int64_t num_experts);
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  void before_choice(Scores& scores) override;
  void end_step() override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  double rate_;
  Tensor bias_, counts_;  // [E]
};

}  // namespace gatewright

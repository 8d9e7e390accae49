// The load-balancing loss of Switch Transformers (Fedus et al. 2021, eq. 4 to 6), over a set of tokens that
// one chooses: a micro-batch, each sequence, or the global batch of all processes and micro-batches of a step
// (Qiu et al. 2025, "Demons in the Detail: On Implementing Load Balancing Loss").
#pragma once

#include "gatewright/routing/balance.h"
#include "gatewright/routing/balance/step_counts.h"

namespace gatewright {

/// E x sum_e f_e P_e, with f [E] what experts get of the tokens (counted, no gradient) and P [E] their mean
/// probability.
Tensor switch_loss(const Tensor& fraction, const Tensor& mean_probability);

/// counts [..., E] over their sum: 0 where nothing was counted. Sums to 1.
Tensor share_of_choices(const Tensor& counts);

/// The mean over G groups of each group's own loss; counts and mean_probability [G, E], float of any width.
Tensor micro_batch_loss(const Tensor& counts, const Tensor& mean_probability);

/// The loss of all groups together, E sum_e f_e P_e with f the share of all choices and P the mean over all
/// tokens: value and gradient of the loss on the pooled batch, also for groups of different size.
/// counts, mean_probability [G, E]; tokens [G].
Tensor global_batch_loss(const Tensor& counts, const Tensor& mean_probability, const Tensor& tokens);

/// Choices of each expert among `sample` tokens that are drawn without replacement: [E].
/// chosen [T, E] is 1 where a token visits an expert. Fails when there are fewer tokens.
Tensor sampled_counts(const Tensor& chosen, int64_t sample, RandomStream& random);

/// Over what the fraction of each expert is counted.
enum class BalanceScope {
  kMicroBatch,
  kSequence,     // each sequence by itself; the loss is the mean over sequences
  kGlobalBatch,  // all processes and, with a buffer, the micro-batches of the step so far
  kShuffled,     // as many tokens as a micro-batch has, drawn from those of the global batch
  kMixed,        // the global batch, plus mixed_weight times the micro-batch
};

/// What a count is divided by.
enum class FractionOf {
  kTokens,   // f sums to the mean number of experts a token, and so does a balanced loss
  kChoices,  // f sums to 1
};

struct SwitchOptions {
  BalanceScope scope = BalanceScope::kMicroBatch;
  FractionOf fraction = FractionOf::kTokens;
  bool buffer = true;          // count the micro-batches of the step so far
  bool counting_pass = false;  // count all micro-batches of the step before the first is learned from
  double mixed_weight = 0.01;
};

/// Probabilities are those of distribution(scores). In evaluation every batch is counted by itself.
class SwitchBalance final : public BalanceTerm {
 public:
  explicit SwitchBalance(const SwitchOptions& options) : options_(options) {}
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  bool wants_counting_pass() const override { return options_.counting_pass; }
  void count(const Assignment& assignment, const RoutingContext& context) override;
  void end_step() override;

  /// What has been counted in this step.
  const Counts& counted() const { return step_.total(); }

 private:
  Tensor fraction(const Counts& counts) const;
  Tensor global_loss(const Counts& own, const Tensor& mean_probability, const RoutingContext& context);
  Tensor shuffled_loss(const Assignment& assignment, const Tensor& mean_probability,
                       const RoutingContext& context);
  Tensor sequence_loss(const Scores& scores, const Assignment& assignment,
                       const RoutingContext& context) const;

  SwitchOptions options_;
  StepCounts step_, counted_before_;
  Tensor pool_;                // uint8 [tokens of the step so far, E], of kShuffled
  Tensor counted_pool_;        // the same of the counting pass
  int64_t last_counted_ = -1;  // micro-batch
  Tensor drawn_;               // [E] drawn for the micro-batch drawn_for_
  int64_t drawn_for_ = -1;
};

}  // namespace gatewright

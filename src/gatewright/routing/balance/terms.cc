#include "gatewright/routing/balance/terms.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

/// Pairs of each (sequence, expert): [B, E].
Tensor counts_by_sequence(const Assignment& assignment, int64_t num_sequences, int64_t num_experts) {
  const int64_t length = assignment.num_tokens / num_sequences;
  const Tensor cell = at::floor_divide(assignment.token, length) * num_experts + expert_of_pairs(assignment);
  const Tensor ones = at::ones({assignment.num_pairs()}, assignment.weight.options());
  return at::zeros({num_sequences * num_experts}, ones.options())
      .index_add(0, cell, ones)
      .view({num_sequences, num_experts});
}

Tensor sequence_loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) {
  const int64_t num_sequences = context.num_sequences, num_experts = scores.num_experts();
  require(num_sequences > 0 && scores.num_tokens() % num_sequences == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, scores.num_tokens(),
          num_sequences);
  const int64_t length = scores.num_tokens() / num_sequences;
  const Tensor fraction =
      counts_by_sequence(assignment, num_sequences, num_experts) / static_cast<double>(length);
  const Tensor probability = distribution(scores).view({num_sequences, length, num_experts}).mean(1);
  return (fraction * probability).sum(-1).mean() * static_cast<double>(num_experts);
}

}  // namespace

double WeightedTerm::weight_at(int64_t step) const {
  if (over_steps <= 0) return weight;
  const double progress = std::min(1.0, static_cast<double>(step) / static_cast<double>(over_steps));
  return weight + (final_weight - weight) * progress;
}

Tensor switch_loss(const Tensor& fraction, const Tensor& mean_probability) {
  return (fraction.detach() * mean_probability).sum() * static_cast<double>(fraction.numel());
}

Tensor SwitchBalance::loss(const Scores& scores, const Assignment& assignment,
                           const RoutingContext& context) {
  const int64_t num_tokens = scores.num_tokens();
  if (num_tokens == 0) return {};
  if (scope_ == BalanceScope::kSequence) return sequence_loss(scores, assignment, context);
  Tensor counts = expert_counts(assignment);
  int64_t counted_tokens = num_tokens;
  if (scope_ == BalanceScope::kGlobalBatch && context.training) {
    counts_ = counts_.defined() ? counts_ + counts : counts;
    tokens_ += num_tokens;
    counts = counts_;
    counted_tokens = tokens_;
  }
  return switch_loss(counts / static_cast<double>(counted_tokens), distribution(scores).mean(0));
}

Tensor z_loss(const Tensor& logits) {
  const Tensor sums = at::logsumexp(logits, -1);
  const Tensor empty = at::isneginf(sums.detach());
  if (!empty.any().item<bool>()) return sums.square().mean();
  // A token without any expert has no logits to keep small.
  const Tensor filled = logits.masked_fill(empty.unsqueeze(-1), 0);
  return at::logsumexp(filled, -1).masked_fill(empty, 0).square().mean();
}

Tensor ZLoss::loss(const Scores& scores, const Assignment&, const RoutingContext&) {
  return scores.num_tokens() == 0 ? Tensor() : z_loss(scores.logits);
}

Tensor squared_coefficient_of_variation(const Tensor& importance) {
  const Tensor mean = importance.mean();
  return (importance - mean).square().mean() / mean.square().clamp_min(1e-20);
}

Tensor ImportanceLoss::loss(const Scores& scores, const Assignment& assignment, const RoutingContext&) {
  if (assignment.num_pairs() == 0) return {};
  const Tensor importance = at::zeros({scores.num_experts()}, assignment.weight.options())
                                .index_add(0, expert_of_pairs(assignment), assignment.weight);
  return squared_coefficient_of_variation(importance);
}

Tensor mean_entropy(const Tensor& probabilities) {
  return (probabilities * at::log(probabilities.clamp_min(1e-20))).sum(-1).mean().neg();
}

Tensor EntropyLoss::loss(const Scores& scores, const Assignment&, const RoutingContext&) {
  return scores.num_tokens() == 0 ? Tensor() : mean_entropy(distribution(scores));
}

LossFreeBias::LossFreeBias(double rate, int64_t num_experts)
    : rate_(rate),
      bias_(at::zeros({num_experts}, at::kFloat)),
      counts_(at::zeros({num_experts}, at::kFloat)) {}

void LossFreeBias::before_choice(Scores& scores) {
  const Tensor bias = bias_.to(scores.logits.device());
  scores.selection_bias = scores.selection_bias.defined() ? scores.selection_bias + bias : bias;
}

Tensor LossFreeBias::loss(const Scores&, const Assignment& assignment, const RoutingContext& context) {
  if (context.training) counts_ = counts_.to(assignment.token.device()) + expert_counts(assignment);
  return {};
}

void LossFreeBias::end_step() {
  bias_.add_(at::sign(counts_.mean() - counts_).to(bias_.device()), rate_);
  counts_ = at::zeros_like(counts_);
}

void LossFreeBias::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".e_score_correction_bias",
                        .tensor = bias_,
                        .weight_decay = false,
                        .trainable = false});
}

}  // namespace gatewright

#include "gatewright/routing/balance/terms.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {
double WeightedTerm::weight_at(int64_t step) const {
  if (over_steps <= 0) return weight;
  const double progress = std::min(1.0, static_cast<double>(step) / static_cast<double>(over_steps));
  return weight + (final_weight - weight) * progress;
}

double WeightedTerm::weight_in_layer(int64_t step, int64_t num_routed_layers) const {
  return weight_at(step) / (mean_over_layers ? static_cast<double>(num_routed_layers) : 1.0);
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
    : rate_(rate), bias_(at::zeros({num_experts}, at::kFloat)) {}

void LossFreeBias::before_choice(Scores& scores) {
  const Tensor bias = bias_.to(scores.logits.device());
  scores.selection_bias = scores.selection_bias.defined() ? scores.selection_bias + bias : bias;
}

Tensor LossFreeBias::loss(const Scores&, const Assignment& assignment, const RoutingContext& context) {
  if (context.training)
    counts_.add(over_processes(expert_counts(assignment), assignment.num_tokens, context), context);
  return {};
}

void LossFreeBias::end_step() {
  if (counts_.empty()) return;
  const Tensor& counts = counts_.total().experts;
  bias_.add_(at::sign(counts.mean() - counts).to(bias_.device()), rate_);
  counts_.clear();
}

void LossFreeBias::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".e_score_correction_bias",
                        .tensor = bias_,
                        .weight_decay = false,
                        .trainable = false});
}

}  // namespace gatewright

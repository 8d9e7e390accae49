#include "gatewright/routing/balance/switch.h"

#include <numeric>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/routing/process_group.h"

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

/// uint8 [T, E]: 1 where a token visits an expert.
Tensor chosen_cells(const Assignment& assignment) {
  const int64_t num_experts = assignment.num_experts();
  Tensor cells = at::zeros({assignment.num_tokens * num_experts},
                           at::TensorOptions().dtype(at::kByte).device(assignment.token.device()));
  return cells.index_fill(0, assignment.token * num_experts + expert_of_pairs(assignment), 1)
      .view({assignment.num_tokens, num_experts});
}

/// The same of the tokens of all processes.
Tensor cells_of_all(const Assignment& assignment, const RoutingContext& context) {
  const Tensor own = chosen_cells(assignment);
  if (!context.processes) return own;
  return context.processes->gather(own.to(at::kCPU)).view({-1, own.size(1)}).to(own.device());
}

}  // namespace

Tensor switch_loss(const Tensor& fraction, const Tensor& mean_probability) {
  return (fraction.detach() * mean_probability).sum() * static_cast<double>(fraction.numel());
}

Tensor share_of_choices(const Tensor& counts) {
  return counts / counts.sum(-1, /*keepdim=*/true).clamp_min(1);
}

Tensor micro_batch_loss(const Tensor& counts, const Tensor& mean_probability) {
  const Tensor own = (share_of_choices(counts).detach() * mean_probability).sum(-1);
  return own.mean() * static_cast<double>(counts.size(-1));
}

Tensor global_batch_loss(const Tensor& counts, const Tensor& mean_probability, const Tensor& tokens) {
  const Tensor share = (tokens / tokens.sum()).to(mean_probability.scalar_type()).unsqueeze(-1);
  return switch_loss(share_of_choices(counts.sum(0)), (mean_probability * share).sum(0));
}

Tensor sampled_counts(const Tensor& chosen, int64_t sample, RandomStream& random) {
  require(chosen.dim() == 2 && sample >= 0 && sample <= chosen.size(0),
          "[switch] {} tokens can't be drawn from {}", sample, chosen.dim() == 2 ? chosen.size(0) : 0);
  std::vector<int64_t> order(static_cast<size_t>(chosen.size(0)));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = 0; i < static_cast<size_t>(sample); ++i)
    std::swap(order[i], order[i + static_cast<size_t>(random.below(order.size() - i))]);
  order.resize(static_cast<size_t>(sample));
  return chosen.index_select(0, at::tensor(order, at::kLong).to(chosen.device())).to(at::kFloat).sum(0);
}

Tensor SwitchBalance::fraction(const Counts& counts) const {
  if (options_.fraction == FractionOf::kChoices) return share_of_choices(counts.experts);
  return counts.experts / counts.tokens;
}

void SwitchBalance::count(const Assignment& assignment, const RoutingContext& context) {
  if (options_.scope == BalanceScope::kShuffled) {
    if (context.micro_batch >= 0 && std::exchange(last_counted_, context.micro_batch) == context.micro_batch)
      return;
    const Tensor cells = cells_of_all(assignment, context);
    counted_pool_ = counted_pool_.defined() ? at::cat({counted_pool_, cells}) : cells;
    return;
  }
  counted_before_.add(over_processes(expert_counts(assignment), assignment.num_tokens, context), context);
}

void SwitchBalance::end_step() {
  step_.clear();
  counted_before_.clear();
  pool_ = counted_pool_ = Tensor();
  last_counted_ = -1;
  drawn_ = Tensor();
  drawn_for_ = -1;
}

/// Groups of different size are weighted by it: the mean of all groups' losses is then that of the pooled
/// batch.
Tensor SwitchBalance::global_loss(const Counts& own, const Tensor& mean_probability,
                                  const RoutingContext& context) {
  const Counts now = over_processes(own.experts, static_cast<int64_t>(own.tokens), context);
  step_.add(now, context);
  const bool counted = !counted_before_.empty();
  const Counts& all = counted ? counted_before_.total() : now;
  const double size = own.tokens * static_cast<double>(all.batches) / all.tokens;
  const Counts& shares = counted || !options_.buffer ? all : step_.total();
  return switch_loss(fraction(shares), mean_probability) * size;
}

Tensor SwitchBalance::shuffled_loss(const Assignment& assignment, const Tensor& mean_probability,
                                    const RoutingContext& context) {
  const bool again = context.micro_batch >= 0 && context.micro_batch == drawn_for_;
  if (!again) {
    require(context.random != nullptr, "layer {}: the balance scope shuffled needs a random stream",
            context.layer);
    if (!counted_pool_.defined()) {
      const Tensor cells = cells_of_all(assignment, context);
      pool_ = options_.buffer && pool_.defined() ? at::cat({pool_, cells}) : cells;
    }
    drawn_ = sampled_counts(counted_pool_.defined() ? counted_pool_ : pool_, assignment.num_tokens,
                            *context.random);
    drawn_for_ = context.micro_batch;
  }
  return switch_loss(fraction({.experts = drawn_, .tokens = static_cast<double>(assignment.num_tokens)}),
                     mean_probability);
}

Tensor SwitchBalance::sequence_loss(const Scores& scores, const Assignment& assignment,
                                    const RoutingContext& context) const {
  const int64_t num_sequences = context.num_sequences, num_experts = scores.num_experts();
  require(num_sequences > 0 && scores.num_tokens() % num_sequences == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, scores.num_tokens(),
          num_sequences);
  const int64_t length = scores.num_tokens() / num_sequences;
  const Tensor counts = counts_by_sequence(assignment, num_sequences, num_experts);
  const Tensor fraction = options_.fraction == FractionOf::kChoices ? share_of_choices(counts)
                                                                    : counts / static_cast<double>(length);
  const Tensor probability = distribution(scores).view({num_sequences, length, num_experts}).mean(1);
  return (fraction * probability).sum(-1).mean() * static_cast<double>(num_experts);
}

Tensor SwitchBalance::loss(const Scores& scores, const Assignment& assignment,
                           const RoutingContext& context) {
  if (scores.num_tokens() == 0) return {};
  if (options_.scope == BalanceScope::kSequence) return sequence_loss(scores, assignment, context);
  const Tensor mean_probability = distribution(scores).mean(0);
  const Counts own{
      .experts = expert_counts(assignment), .tokens = static_cast<double>(scores.num_tokens()), .batches = 1};
  if (options_.scope == BalanceScope::kMicroBatch || !context.training)
    return switch_loss(fraction(own), mean_probability);
  if (options_.scope == BalanceScope::kShuffled) return shuffled_loss(assignment, mean_probability, context);
  const Tensor global = global_loss(own, mean_probability, context);
  if (options_.scope == BalanceScope::kGlobalBatch) return global;
  return global + switch_loss(fraction(own), mean_probability) * options_.mixed_weight;
}

}  // namespace gatewright

#include "gatewright/routing/weights.h"

#include <utility>

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Sum of the pairs' values over each token: [N] -> [T].
Tensor sum_by_token(const Assignment& pairs) {
  return at::zeros({pairs.num_tokens}, pairs.weight.options()).index_add(0, pairs.token, pairs.weight);
}

/// exp(logit - largest chosen logit of the token) as a [T, E] table: sums of chosen entries cannot overflow.
Tensor chosen_exponentials(const Scores& scores, const choice::Pairs& reference) {
  const Assignment chosen = make_assignment(reference, scores.logits.detach());
  const Tensor mask = at::zeros_like(scores.logits, at::kBool)
                          .view({-1})
                          .index_fill(0, chosen.token * scores.num_experts() + expert_of_pairs(chosen), true)
                          .view_as(scores.logits);
  const Tensor largest =
      scores.logits.detach().masked_fill(mask.logical_not(), -1e30).amax(-1, /*keepdim=*/true);
  return at::exp((scores.logits - largest).masked_fill(mask.logical_not(), 0));
}

/// Ones [T, E]; with the gradient of p / p with respect to the upper p, or none.
Tensor ones_like_probabilities(const Scores& scores, bool straight_through) {
  const Tensor value = scores.probabilities.detach();
  if (!straight_through) return at::ones_like(value);
  return 1 + (scores.probabilities - value) / value.clamp_min(choice::kLeastStraightThrough);
}

Assignment divided_by_sum(const Tensor& values, const choice::Pairs& pairs, const choice::Pairs& reference) {
  Assignment result = make_assignment(pairs, values);
  const Tensor sums = sum_by_token(make_assignment(reference, values));
  const Tensor divisors = sums.masked_fill(sums.detach().abs() < 1e-20, 1e-20);
  result.weight = result.weight / divisors.index_select(0, result.token);
  return result;
}

/// Gives the tokens of `broadcast` their distribution as weights.
void weigh_broadcast(const choice::WeightRule& rule, const Scores& scores,
                     const std::vector<int64_t>& broadcast, Assignment& assignment) {
  if (broadcast.empty()) return;
  const at::Device device = assignment.token.device();
  const Tensor is_broadcast =
      at::zeros({assignment.num_tokens}, at::TensorOptions().dtype(at::kBool).device(device))
          .index_fill(0, at::tensor(broadcast, at::kLong).to(device), true);
  const Tensor cell = assignment.token * scores.num_experts() + expert_of_pairs(assignment);
  const Tensor share = distribution(scores).reshape({-1}).index_select(0, cell) * rule.scale;
  assignment.weight = at::where(is_broadcast.index_select(0, assignment.token), share, assignment.weight);
}

choice::ScoreRows rows_of(const Tensor& table) {
  return {.values = {table.data_ptr<float>(), static_cast<size_t>(table.numel())},
          .num_tokens = table.size(0),
          .num_experts = table.size(1)};
}

/// What the backward pass needs of a choice; no tensor.
struct Choice : torch::CustomClassHolder {
  choice::WeightRule rule;
  choice::Selection selection;
  std::vector<int64_t> place;  // of each pair by token among the pairs by expert
};

/// choice::weights with its derivative: one pass over the chosen entries instead of operations on [T, E].
struct CpuWeights : torch::autograd::Function<CpuWeights> {
  static Tensor forward(AutogradContext* context, const Tensor& scores, c10::intrusive_ptr<Choice> choice) {
    const std::vector<float> by_token = choice::weights(choice->rule, rows_of(scores), choice->selection);
    Tensor weight = at::empty({static_cast<int64_t>(by_token.size())}, at::kFloat);
    float* out = weight.data_ptr<float>();
    for (size_t i = 0; i < by_token.size(); ++i) out[choice->place[i]] = by_token[i];
    context->save_for_backward({scores});
    context->saved_data["choice"] = c10::IValue::make_capsule(std::move(choice));
    return weight;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor scores = context->get_saved_variables()[0], gradient = gradients[0].contiguous();
    const auto choice = c10::static_intrusive_pointer_cast<Choice>(context->saved_data["choice"].toCapsule());
    const float* by_expert = gradient.data_ptr<float>();
    std::vector<float> by_token(choice->place.size());
    for (size_t i = 0; i < by_token.size(); ++i) by_token[i] = by_expert[choice->place[i]];
    Tensor result = at::zeros_like(scores);
    choice::add_weights_gradient(choice->rule, rows_of(scores), choice->selection, by_token,
                                 {result.data_ptr<float>(), static_cast<size_t>(result.numel())});
    return {result, Tensor()};
  }
};

}  // namespace

Assignment weigh_with_tensors(const choice::WeightRule& rule, const Scores& scores,
                              const choice::Selection& selection) {
  const int64_t num_experts = scores.num_experts();
  const choice::Pairs pairs = choice::by_expert(selection.rows, num_experts);
  const choice::Pairs reference =
      selection.before_capacity ? choice::by_expert(*selection.before_capacity, num_experts) : pairs;
  Assignment result;
  switch (rule.weighting) {
    case choice::Weighting::kAsIs:
      result = make_assignment(pairs, scores.probabilities);
      break;
    case choice::Weighting::kRenormalised:
      result = divided_by_sum(scores.probabilities, pairs, reference);
      break;
    case choice::Weighting::kSoftmaxChosen:
      result = divided_by_sum(chosen_exponentials(scores, reference), pairs, reference);
      break;
    case choice::Weighting::kEqual:
      result = divided_by_sum(at::ones_like(scores.probabilities), pairs, reference);
      break;
    case choice::Weighting::kOne:
      result = make_assignment(pairs, ones_like_probabilities(scores, rule.straight_through));
      break;
  }
  if (rule.scale != 1.0) result.weight = result.weight * rule.scale;
  weigh_broadcast(rule, scores, selection.broadcast, result);
  return result;
}

Assignment weigh(const choice::WeightRule& rule, const Scores& scores, choice::Selection selection) {
  Tensor table = choice::reads_logits(rule.weighting) ? scores.logits : scores.probabilities;
  if (rule.weighting == choice::Weighting::kOne && !rule.straight_through) table = table.detach();
  if (!table.is_cpu() || table.scalar_type() != at::kFloat)
    return weigh_with_tensors(rule, scores, selection);
  auto choice = c10::make_intrusive<Choice>();
  const std::vector<int64_t> broadcast = selection.broadcast;
  choice->rule = rule;
  choice->selection = std::move(selection);
  const choice::Pairs pairs = choice::by_expert(choice->selection.rows, scores.num_experts(), &choice->place);
  Assignment result =
      make_assignment_from_pair_weights(pairs, CpuWeights::apply(table.contiguous(), std::move(choice)));
  weigh_broadcast(rule, scores, broadcast, result);
  return result;
}

}  // namespace gatewright

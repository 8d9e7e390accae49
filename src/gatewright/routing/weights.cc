#include "gatewright/routing/weights.h"

namespace gatewright {
namespace {

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

Assignment divided_by_sum(const Tensor& values, const choice::Pairs& pairs, const choice::Pairs& reference) {
  Assignment result = make_assignment(pairs, values);
  const Tensor sums = sum_by_token(make_assignment(reference, values)).clamp_min(1e-20);
  result.weight = result.weight / sums.index_select(0, result.token);
  return result;
}

}  // namespace

Assignment weigh(const choice::WeightRule& rule, const Scores& scores, const choice::Selection& selection) {
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
  }
  if (rule.scale != 1.0) result.weight = result.weight * rule.scale;
  return result;
}

}  // namespace gatewright

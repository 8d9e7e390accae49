// The one currency between routers and experts: who computes what, with which weight.
#pragma once

#include <cstdint>

#include "gatewright/routing/choice/pairs.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// Which tokens each expert computes, and with what weight.
/// Compressed sparse rows over experts: the pairs of expert e are [expert_begin[e], expert_begin[e+1]), in
/// ascending order of their tokens. A token may be chosen by any number of experts, none included.
struct Assignment {
  Tensor expert_begin;     // int64 [E + 1]
  Tensor token;            // int64 [N]  index of the token of each pair
  Tensor weight;           // float32 [N]  combination weight; carries the gradient to the scorer
  int64_t num_tokens = 0;  // T

  int64_t num_experts() const { return expert_begin.size(0) - 1; }
  int64_t num_pairs() const { return token.size(0); }
};

/// The assignment of `pairs`, with the weights gathered from `token_weights` (float32 [T, E],
/// differentiable), on the device of `token_weights`.
Assignment make_assignment(const choice::Pairs& pairs, const Tensor& token_weights);

/// The assignment with weights that are already in the order of the pairs (float32 [N]).
Assignment make_assignment_from_pair_weights(const choice::Pairs& pairs, Tensor weight);

/// The expert of each pair: int64 [N].
Tensor expert_of_pairs(const Assignment& assignment);
/// Pairs of each expert: float32 [E], without gradient.
Tensor expert_counts(const Assignment& assignment);
/// Back to plain values (copies from the device once).
choice::Pairs to_pairs(const Assignment& assignment);

/// Checks the invariants (monotone expert_begin, tokens in range and ascending within an expert, no pair
/// twice, finite weights) and fails naming `what`. For tests and for assignments that users build by hand.
void validate(const Assignment& assignment, std::string_view what);

}  // namespace gatewright

// What a scorer says and selectors, weights and balance terms read.
#pragma once

#include "gatewright/routing/choice/weights.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// Scores of T tokens for E experts, float32 whatever the model's precision.
struct Scores {
  Tensor logits;                // [T, E]  -inf: the expert cannot be chosen
  Tensor probabilities;         // [T, E]  the activation of the logits, times a gain where the router has one
  double selection_factor = 1;  // of what is compared for the choice; left out of the weights
  Tensor selection_bias = {};   // [E] or undefined: then added for the choice and left out of the weights
  choice::Activation activation = choice::Activation::kSoftmax;  // that made the probabilities

  int64_t num_tokens() const { return logits.size(0); }
  int64_t num_experts() const { return logits.size(1); }
};

/// Probabilities of logits, differentiable; -inf gives 0, also where a whole row is -inf.
Tensor activate(choice::Activation activation, const Tensor& logits);

/// The probabilities as a distribution over experts, differentiable, which balance terms compare with each
/// other: softmax as it is, sigmoids over their sum (DeepSeek-V3 2024, eq. 19), for identity the softmax of
/// the logits, and for relu_rms the positive parts over their sum (zeros where none is positive).
Tensor distribution(const Scores& scores);

/// What a selector compares: probabilities or logits (as it reads) times the selection factor, plus the
/// selection bias, -inf where the logit is. Without gradient.
Tensor selection_scores(const Scores& scores, choice::Reads reads);

}  // namespace gatewright

// From logits to probabilities and from a choice to combination weights, on plain rows. The tensor path
// (routing/weights.h) computes the same with gradients.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// How a router turns logits into probabilities.
enum class Activation {
  kSoftmax,   // over all experts; -inf has probability 0; a row of -inf gives zeros
  kSigmoid,   // each expert by itself
  kIdentity,  // the logits themselves; -inf gives 0
  kReluRms,   // the positive part over its root mean square over the experts
};

/// Added to the mean square of kReluRms, so that a row without a positive logit gives zeros.
inline constexpr double kReluRmsAddend = 1e-5;

void activate_row(Activation activation, std::span<const float> logits, std::span<float> probabilities);

/// How the chosen experts are weighted.
enum class Weighting {
  kAsIs,           // their probabilities
  kRenormalised,   // divided by their sum over the token's chosen experts
  kSoftmaxChosen,  // softmax of the chosen logits (softmax after the choice)
  kEqual,          // 1 / number of the token's chosen experts
  kOne,            // 1: the experts' outputs are added as they are
};

/// A rule for weights: the weighting, then a factor (DeepSeek's routed_scaling_factor).
struct WeightRule {
  Weighting weighting = Weighting::kAsIs;
  double scale = 1.0;
  /// With kOne: the weight is p / p, whose numerator has a gradient. Else weights of 1 have none.
  bool straight_through = false;
};

Activation parse_activation(std::string_view name);
Weighting parse_weighting(std::string_view name);
/// "softmax", "sigmoid", "identity", "relu_rms" and "as_is", "renormalised", "softmax_chosen", "equal",
/// "one".
const std::vector<std::string>& activation_names();
const std::vector<std::string>& weighting_names();

/// Probabilities below this are divided by as if they were this large, where a weight is p / p.
inline constexpr double kLeastStraightThrough = 1e-20;

/// Whether the rule computes with logits, and not with probabilities.
bool reads_logits(Weighting weighting);

/// The weights of the pairs of `selection.rows`, in their order; `scores` are the logits or the
/// probabilities, as the rule reads. Sums run over what was chosen before a capacity limit, so that dropping
/// a pair does not raise the weight of the others.
std::vector<float> weights(const WeightRule& rule, const ScoreRows& scores, const Selection& selection);

/// Adds to scores_gradient [T, E] what sum_i gradient_i weight_i gives, gradient being in the order of the
/// weights.
void add_weights_gradient(const WeightRule& rule, const ScoreRows& scores, const Selection& selection,
                          std::span<const float> gradient, std::span<float> scores_gradient);

}  // namespace gatewright::choice

// Combination weights with gradients: the tensor path of choice/weights.h.
#pragma once

#include "gatewright/routing/assignment.h"
#include "gatewright/routing/scores.h"

namespace gatewright {

/// The assignment of a selection. The weights follow the rule and carry the gradient to the scores; sums over
/// a token's chosen experts run over what was chosen before a capacity limit.
Assignment weigh(const choice::WeightRule& rule, const Scores& scores, const choice::Selection& selection);

}  // namespace gatewright

// Combination weights with gradients: the tensor path of choice/weights.h.
#pragma once

#include "gatewright/routing/assignment.h"
#include "gatewright/routing/scores.h"

namespace gatewright {

/// The assignment of a selection. The weights follow the rule and carry the gradient to the scores; sums over
/// a token's chosen experts run over what was chosen before a capacity limit.
Assignment weigh(const choice::WeightRule& rule, const Scores& scores, choice::Selection selection);

/// The same as operations on tensors, for any device and float type; on the CPU `weigh` computes float32 on
/// plain rows, in less time.
Assignment weigh_with_tensors(const choice::WeightRule& rule, const Scores& scores,
                              const choice::Selection& selection);

}  // namespace gatewright

// The p of top-p routing that visits a wanted number of experts.
#pragma once

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// The p in [0, 1] at which top-p visits `mean_experts` experts a token, on average over the rows (to within
/// one visit of all of them, ties aside). Top-p visits one expert more for each sum of a row's largest
/// probabilities that is at most p, so p is an order statistic of these sums.
/// @param probabilities  [T, E], T > 0; a row's sum may be below 1
/// @param mean_experts   from 1 to E
double top_p_for(const ScoreRows& probabilities, double mean_experts);

}  // namespace gatewright::choice

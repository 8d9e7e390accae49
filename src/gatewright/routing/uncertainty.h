// How undecided a router is: what a threshold for broadcasting tokens is chosen by.
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// - sum_e p_e ln(p_e + 1e-5) over the last axis, in nats (see choice::uncertainty): float32 [..., E] ->
/// [...].
Tensor uncertainty(const Tensor& distribution);

/// The threshold that the given share of tokens is at or above. values [T]; share in (0, 1).
double threshold_for_share(const Tensor& values, double share);

}  // namespace gatewright

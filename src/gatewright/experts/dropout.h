// Dropout with draws from a named stream.
#pragma once

#include "gatewright/experts/expert_context.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// In training each entry of x is zero with the given probability and else divided by 1 - probability; x
/// itself otherwise. The same draws with any number of threads.
Tensor dropout(const Tensor& x, double probability, const ExpertContext& context);

}  // namespace gatewright

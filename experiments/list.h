// Every experiment, a function each in a file of its own.
#pragma once

#include "experiments/experiment.h"

namespace gatewright::experiments {

Experiment dynamic_moe();
Experiment global_batch_lbl();

}  // namespace gatewright::experiments

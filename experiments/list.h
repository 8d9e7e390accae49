// Every experiment, a function each in a file of its own.
#pragma once

#include "experiments/experiment.h"

namespace gatewright::experiments {

Experiment blockffn();
Experiment dynamic_moe();
Experiment global_batch_lbl();
Experiment gw_moe();
Experiment rmoe();
Experiment thor();

}  // namespace gatewright::experiments

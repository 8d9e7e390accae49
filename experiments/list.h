// Every experiment, a function each in a file of its own.
#pragma once

#include "experiments/experiment.h"

namespace gatewright::experiments {

Experiment blockffn();
Experiment chain_of_experts();
Experiment dynamic_moe();
Experiment global_batch_lbl();
Experiment gw_moe();
Experiment mixture_of_routers();
Experiment openmoe();
Experiment rmoe();
Experiment smoe_dropout();
Experiment thor();
Experiment union_of_experts();

}  // namespace gatewright::experiments

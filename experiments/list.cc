#include "experiments/list.h"

namespace gatewright::experiments {

const std::vector<Experiment>& all_experiments() {
  static const std::vector<Experiment> all = {
      blockffn(),           chain_of_experts(), dynamic_moe(), global_batch_lbl(), gw_moe(),
      mixture_of_routers(), openmoe(),          rmoe(),        smoe_dropout(),     thor(),
      union_of_experts(),
  };
  return all;
}

}  // namespace gatewright::experiments

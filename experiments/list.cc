#include "experiments/list.h"

namespace gatewright::experiments {

const std::vector<Experiment>& all_experiments() {
  static const std::vector<Experiment> all = {
      blockffn(), dynamic_moe(), global_batch_lbl(), gw_moe(), rmoe(), thor(),
  };
  return all;
}

}  // namespace gatewright::experiments

#include "experiments/list.h"

namespace gatewright::experiments {

const std::vector<Experiment>& all_experiments() {
  static const std::vector<Experiment> all = {
      dynamic_moe(),
      global_batch_lbl(),
  };
  return all;
}

}  // namespace gatewright::experiments

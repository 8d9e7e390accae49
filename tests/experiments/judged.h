// What tests of judges share: the measurements of seeds as short tables.
#pragma once

#include <string>
#include <vector>

#include "experiments/experiment.h"

namespace gatewright::experiments {

/// One value a seed.
struct Given {
  std::string arm, metric;
  std::vector<double> values;
};

inline Results results_of(const std::vector<Given>& given) {
  Results results;
  for (size_t s = 0; s < given.front().values.size(); ++s) {
    std::vector<Recorder::Measured> seed;
    for (const Given& g : given) seed.push_back({g.arm, g.metric, g.values[s]});
    results.add(seed);
  }
  return results;
}

inline std::vector<bool> met(const std::vector<Finding>& findings) {
  std::vector<bool> all;
  for (const Finding& f : findings) all.push_back(f.met);
  return all;
}

}  // namespace gatewright::experiments

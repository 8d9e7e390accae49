// What one router did with one batch: read by balance reports, the trace and the caller.
#pragma once

#include <string>
#include <vector>

#include "gatewright/routing/assignment.h"
#include "gatewright/routing/scores.h"

namespace gatewright {

struct RoutingRecord {
  int64_t layer = 0;
  int64_t round = 0;  // of the layer (see rounds.h)
  Scores scores = {};
  Assignment assignment = {};
  choice::Reads reads = choice::Reads::kProbabilities;  // what the selector compared

  struct TermValue {
    std::string name;
    Tensor value;  // without its weight, detached; undefined for terms without a loss
    double weight = 0;
  };
  std::vector<TermValue> balance = {};
  Tensor loss = {};  // weighted sum of the terms, with gradient; undefined when there are none
};

/// Largest load over mean load, minus 1; 0 for no pairs.
double load_imbalance(const Tensor& counts);
/// Experts that no token visits.
int64_t dead_experts(const Tensor& counts);
/// Each token's margin (see choice::margins): float32 [T].
std::vector<float> margins(const RoutingRecord& record);

}  // namespace gatewright

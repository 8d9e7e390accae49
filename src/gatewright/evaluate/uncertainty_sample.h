// How undecided routers are on some text: what a threshold for broadcasting tokens (GW-MoE) is chosen by.
#pragma once

#include <vector>

#include "gatewright/routing/record.h"

namespace gatewright {

/// The uncertainty (see routing/uncertainty.h) of every token seen, layer by layer, in nats.
class UncertaintySample {
 public:
  /// The records of one batch, the same layers in every call; tokens that are not real [T] are left out.
  void add(const std::vector<RoutingRecord>& records, const Tensor& real);

  struct Layer {
    int64_t layer = 0, round = 0;
    double mean = 0;
    double at_most = 0;                   // of any token with so many experts
    std::vector<double> thresholds = {};  // of the shares asked for: as many tokens are at or above
  };
  /// shares: each in (0, 1). Fails when no token was seen.
  std::vector<Layer> layers(const std::vector<double>& shares) const;
  /// Thresholds for the tokens of all layers together: a recipe has one for all.
  std::vector<double> thresholds(const std::vector<double>& shares) const;

 private:
  struct Seen {
    int64_t layer, round, num_experts;
    std::vector<Tensor> values;  // [tokens] a batch
  };
  std::vector<Seen> layers_;
};

}  // namespace gatewright

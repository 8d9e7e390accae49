// What routed layers did over many batches, as counts: cheap enough to be kept always.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gatewright/routing/record.h"

namespace gatewright {

/// Of one router: a layer that routes in several rounds has one for each.
struct LayerStatistics {
  int64_t layer = 0;
  std::vector<double> counts = {};             // [E] pairs of each expert
  std::vector<double> tokens_by_experts = {};  // [E + 1] tokens that visit 0, 1, ..., E experts
  int64_t tokens = 0;
  double largest_logit = 0;  // absolute value
  /// Mean value of each balance term (without its weight), by name; only terms with a loss.
  std::vector<std::pair<std::string, double>> balance = {};

  double pairs() const;
  double experts_per_token() const;
  /// Largest load over mean load, minus 1.
  double load_imbalance() const;
  int64_t dead_experts() const;
};

class RoutingStatistics {
 public:
  /// Adds the records of one batch of T tokens (the same layers in the same order every time). real: bool, T
  /// values in any shape, false: filling, which is not counted; undefined: every token counts.
  void add(std::span<const RoutingRecord> records, const Tensor& real = {});
  void clear() { layers_.clear(); }

  const std::vector<LayerStatistics>& layers() const { return layers_; }
  bool empty() const { return layers_.empty(); }
  /// Means over layers; 0 without layers.
  double load_imbalance() const;
  double experts_per_token() const;
  int64_t dead_experts() const;  // sum over layers
  double largest_logit() const;
  /// Balance terms by name, mean over layers.
  std::vector<std::pair<std::string, double>> balance() const;

 private:
  std::vector<LayerStatistics> layers_;
  std::vector<int64_t> batches_;  // of each layer, for the means of balance terms
};

}  // namespace gatewright

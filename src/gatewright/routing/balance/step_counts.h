// Loads of the experts over one optimiser step: all its micro-batches, and all processes.
#pragma once

#include "gatewright/routing/context.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// Counts of some tokens, and how many tokens and micro-batches they are of.
struct Counts {
  Tensor experts = {};  // float32 [E] pairs of each expert
  double tokens = 0;
  int64_t batches = 0;  // micro-batches of single processes

  Counts& operator+=(const Counts& other);
};

/// The counts of one micro-batch, summed over the processes when the context has several.
Counts over_processes(const Tensor& experts, int64_t tokens, const RoutingContext& context);

/// The sum over the micro-batches of a step, empty at its beginning.
class StepCounts {
 public:
  /// A micro-batch that the context numbers is added once, however often it is computed again.
  void add(const Counts& counts, const RoutingContext& context);
  const Counts& total() const { return total_; }
  bool empty() const { return total_.batches == 0; }
  void clear() { *this = {}; }

 private:
  Counts total_;
  int64_t last_ = -1;  // micro-batch
};

}  // namespace gatewright

// Who wants to see what weights are multiplied with: calibration counts it, nothing else should.
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// Handed down a forward pass (ForwardOptions, AttentionInput, ExpertContext) to whatever multiplies with
/// weights of a file. The experts then take plain tensor operations, whose inner values can be seen.
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;

  /// rows [n, in] are about to be multiplied with the weight; of a stack of experts with that of expert
  /// `index`.
  virtual void see(const Tensor& weight, int64_t index, const Tensor& rows) = 0;
};

}  // namespace gatewright

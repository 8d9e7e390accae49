// Who wants to see what weights are multiplied with: calibration counts it, nothing else should.
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// While one lives, it sees the products of weights that this thread computes; one at a time. The experts
/// then take plain tensor operations, whose inner values can be seen.
class ProductObserver {
 public:
  ProductObserver();
  virtual ~ProductObserver();
  ProductObserver(const ProductObserver&) = delete;
  ProductObserver& operator=(const ProductObserver&) = delete;

  /// rows [n, in] are about to be multiplied with the weight; of a stack of experts with that of expert
  /// `index`.
  virtual void see(const Tensor& weight, int64_t index, const Tensor& rows) = 0;

  /// The one that lives; null without one.
  static ProductObserver* current();
};

}  // namespace gatewright

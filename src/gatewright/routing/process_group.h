// The processes that compute one optimiser step together: what a balance term needs of them.
#pragma once

#include <cstdint>

#include "gatewright/tensor.h"

namespace gatewright {

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int64_t size() const = 0;
  virtual int64_t rank() const = 0;
  /// The sum of every process's tensor. All call it in the same order, with tensors of one shape and type.
  virtual Tensor sum(const Tensor& own) const = 0;
  /// Every process's tensor, [size, ...], in the order of their ranks; the same conditions.
  virtual Tensor gather(const Tensor& own) const = 0;
};

}  // namespace gatewright

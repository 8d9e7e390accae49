// Random tensors for the tests of layers, and how far two tensors lie apart.
#pragma once

#include "gatewright/base/random.h"
#include "gatewright/tensor.h"

namespace gatewright {

inline Tensor normals(at::IntArrayRef shape, RandomStream& random) {
  Tensor result = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < result.numel(); ++i) result.data_ptr<float>()[i] = random.normal();
  return result;
}

inline Tensor leaf(const Tensor& t) { return t.detach().clone().set_requires_grad(true); }
inline Tensor double_leaf(const Tensor& t) { return t.detach().to(at::kDouble).set_requires_grad(true); }

/// The largest |a - b| / (1 + |b|).
inline double difference(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0) return 0;
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs() / (1 + b.to(at::kDouble).abs())).max().item<double>();
}

}  // namespace gatewright

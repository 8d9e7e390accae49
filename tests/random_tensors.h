// Random tensors for tests of many rooms, and how far two tensors lie apart.
#pragma once

#include "gatewright/base/random.h"
#include "gatewright/routing/named_tensor.h"
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
  const Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return ((x - y).abs() / (1 + y.abs())).max().item<double>();
}

inline void set_gradients(ParameterList& parameters, uint64_t seed) {
  RandomStream random(seed, "gradients");
  for (NamedTensor& p : parameters) p.tensor.mutable_grad() = normals(p.tensor.sizes(), random);
}

}  // namespace gatewright

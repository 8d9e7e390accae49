#include "gatewright/experts/activation.h"

#include <numbers>

namespace gatewright {
namespace {

/// (u + 1) g sigmoid(1.702 g) with g = min(gate, 7) and u = up in +- 7.
Tensor clamped_swiglu(const Tensor& gate, const Tensor& up) {
  constexpr double kLimit = 7, kSlope = 1.702;
  const Tensor g = gate.clamp_max(kLimit);
  return (up.clamp(-kLimit, kLimit) + 1) * g * at::sigmoid(kSlope * g);
}

}  // namespace

Tensor activated(Activation activation, const Tensor& gate, const Tensor& up) {
  switch (activation) {
    case Activation::swiglu:
      return at::silu(gate) * up;
    case Activation::clamped_swiglu:
      return clamped_swiglu(gate, up);
    case Activation::gelu:
      return 0.5 * up * (1 + at::erf(up / std::numbers::sqrt2));
    case Activation::silu:
      return at::silu(up);
    case Activation::relu:
      return at::relu(up);
  }
  return {};
}

}  // namespace gatewright

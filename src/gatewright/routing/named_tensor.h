// Parameters by name. Modules are plain structs that append theirs to a list; the optimiser, the checkpoint
// and the gradient checks read the list.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// A trainable tensor (or, with `trainable` false, a state that checkpoints must keep).
/// The name is Hugging Face's. A name with "{}" stands for a stacked tensor [E, ...]: in files its slices
/// along the first axis lie under the names with 0, 1, ..., E-1 in place of "{}".
struct NamedTensor {
  std::string name;
  Tensor tensor;
  bool weight_decay = true;
  bool trainable = true;
  bool router = false;  // decides where tokens go
};

using ParameterList = std::vector<NamedTensor>;

/// Marks the tensors from `first` on as a router's.
void mark_routers(ParameterList& parameters, size_t first);

/// While one lives, new parameters of this thread are not drawn and have no values yet: for models whose
/// weights are read from a file right after. (Memory that is never written to is never there.)
class WithoutInitialWeights {
 public:
  WithoutInitialWeights();
  ~WithoutInitialWeights();
  WithoutInitialWeights(const WithoutInitialWeights&) = delete;
  WithoutInitialWeights& operator=(const WithoutInitialWeights&) = delete;

 private:
  bool before_;
};

/// Normal draws of a stream as a leaf tensor with gradient, float32: the same values on every machine, with
/// any number of threads and with every LibTorch.
Tensor normal_parameter(at::IntArrayRef shape, double standard_deviation, RandomStream& random);
/// Uniform draws in [-bound, bound) of a stream, float32, without gradient.
Tensor uniform_tensor(at::IntArrayRef shape, double bound, RandomStream& random);
/// A leaf tensor with gradient filled with one value, float32.
Tensor constant_parameter(at::IntArrayRef shape, double value);

}  // namespace gatewright

// The choice as tensor operations on any device, without copying the scores to the host: what CUDA uses. On
// the CPU the plain rows of choice/ are faster; tests hold the two against each other.
#pragma once

#include <functional>
#include <string_view>

#include "gatewright/base/parameters.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// selection scores float32 [T, E], -inf never chosen -> bool [T, E].
using TensorChoice = std::function<Tensor(const Tensor& scores)>;

/// The tensor form of a selector by name, or an empty function when there is none (it draws random numbers,
/// or nobody wrote one): the caller then copies the scores to the host.
TensorChoice tensor_choice(std::string_view selector, const Values& values);

}  // namespace gatewright

// What stands between an expert's products, in plain tensor operations; the kernels have their own.
#pragma once

#include "gatewright/kernels/cpu/expert_ffn.h"
#include "gatewright/tensor.h"

namespace gatewright {

using kernels::Activation;

/// gate [rows, F] (undefined without one), up [rows, F] -> h [rows, F], differentiable.
Tensor activated(Activation activation, const Tensor& gate, const Tensor& up);

}  // namespace gatewright

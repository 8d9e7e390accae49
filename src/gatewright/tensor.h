// LibTorch's tensors and autograd: the one door through which they enter, and the precompiled header.
// The light set of headers: torch/torch.h costs four times as much and brings nothing that is used here.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

namespace gatewright {
using at::Tensor;
}

// Gather, grouped products, activation and weighted combine of feed-forward experts as one differentiable
// operation. Here, and nowhere else, it is decided what computes it: the kernels (float32 and bfloat16) of
// the CPU or, in a build with GATEWRIGHT_CUDA, of CUDA, packed_ffn.h for frozen weights of a file, or plain
// tensor operations for every other device and type.
#pragma once

#include <functional>

#include "gatewright/experts/activation.h"
#include "gatewright/routing/assignment.h"
#include "gatewright/tensor.h"

namespace gatewright {

class ProductObserver;

/// Stacked parameters; undefined where the expert has none (gate without swiglu, biases).
struct FfnTensors {
  Tensor gate = {};       // [E, F, H]
  Tensor up = {};         // [E, F, H]
  Tensor down = {};       // [E, H, F]
  Tensor gate_bias = {};  // [E, F]
  Tensor up_bias = {};    // [E, F]
  Tensor down_bias = {};  // [E, H]
};

/// hidden [T, H] -> [T, H], in the type of hidden (parameters of another type are converted).
/// recompute: keep nothing but the inputs for the backward pass, and compute the activations again there.
/// observer: sees the products, which are then plain tensor operations.
Tensor expert_ffn(const Tensor& hidden, const Assignment& assignment, const FfnTensors& parameters,
                  Activation activation, bool recompute = false, ProductObserver* observer = nullptr);

/// The same in plain tensor operations, one product for each expert that has pairs: for devices and types
/// without kernels, and to check them. Reads expert_begin on the host once.
/// @param after_activation  what becomes of an expert's inner values [rows, F] (dropout, say), when given
Tensor expert_ffn_by_tensor_operations(const Tensor& hidden, const Assignment& assignment,
                                       const FfnTensors& parameters, Activation activation,
                                       const std::function<Tensor(const Tensor&)>& after_activation = {},
                                       ProductObserver* observer = nullptr);

/// A dense feed-forward: every token through one expert, whose parameters have no first axis, times
/// weight [T] when it is defined.
Tensor dense_ffn(const Tensor& hidden, const FfnTensors& parameters, Activation activation,
                 const Tensor& weight = {}, bool recompute = false, ProductObserver* observer = nullptr);

}  // namespace gatewright

// AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization") as one pass over memory.
#pragma once

#include <string>

#include "gatewright/routing/named_tensor.h"

namespace gatewright {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // only of parameters whose `weight_decay` is true
};

/// The 2-norm of all gradients together, summed in double precision in an order that does not depend on the
/// number of threads. Parameters without a gradient count nothing.
double gradient_norm(const ParameterList& parameters);
/// The factor that brings a norm down to max_norm: 1 when it is not above it or max_norm is 0. NaN stays NaN.
double clip_factor(double norm, double max_norm);

class AdamW {
 public:
  /// Optimises the trainable entries of the list; moments are float32 and start at zero.
  AdamW(const ParameterList& parameters, const AdamWOptions& options);

  /// One update of every parameter that has a gradient, which is multiplied by gradient_scale on the way (the
  /// factor of clipping). The gradients stay as they are.
  void step(double learning_rate, double gradient_scale = 1.0);
  /// Drops all gradients: the next backward pass writes instead of adding.
  void zero_grad();

  int64_t steps() const { return steps_; }
  /// The moments, by the parameters' names with ".first_moment" and ".second_moment": not copies.
  ParameterList state() const;
  /// Takes over the moments saved from state() after `steps` steps, bit for bit. Fails naming a tensor that
  /// is missing or of another shape, and changes nothing then.
  void load_state(const ParameterList& state, int64_t steps);

 private:
  struct Slot {
    NamedTensor parameter;
    Tensor first, second;
  };
  std::vector<Slot> slots_;
  AdamWOptions options_;
  int64_t steps_ = 0;
};

}  // namespace gatewright

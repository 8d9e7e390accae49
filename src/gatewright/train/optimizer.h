// From gradients to new weights: what optimisers have in common, and the list of them.
#pragma once

#include <functional>
#include <memory>

#include "gatewright/base/registry.h"
#include "gatewright/routing/named_tensor.h"

namespace gatewright {

/// The 2-norm of all gradients together, summed in double precision in an order that does not depend on the
/// number of threads. Parameters without a gradient count nothing.
double gradient_norm(const ParameterList& parameters);
/// The factor that brings a norm down to max_norm: 1 when it is not above it or max_norm is 0. NaN stays NaN.
double clip_factor(double norm, double max_norm);

class Optimizer {
 public:
  /// Optimises the trainable entries of the list.
  explicit Optimizer(const ParameterList& parameters);
  virtual ~Optimizer() = default;

  /// One update of every parameter that has a gradient, which is multiplied by gradient_scale on the way (the
  /// factor of clipping). The gradients stay as they are.
  void step(double learning_rate, double gradient_scale = 1.0);
  /// Drops all gradients: the next backward pass writes instead of adding.
  void zero_grad();

  int64_t steps() const { return steps_; }
  /// Moments by the parameters' names with a suffix, float32: not copies.
  virtual ParameterList state() const = 0;
  /// Takes over what state() gave after `steps` steps, bit for bit. Fails naming a tensor that is missing or
  /// of another shape, and changes nothing then.
  void load_state(const ParameterList& state, int64_t steps);

 protected:
  /// The parameters that are optimised; update() is told which by its place here.
  const ParameterList& parameters() const { return parameters_; }
  /// steps() counts this step already; without recording gradients.
  virtual void update(size_t index, const Tensor& gradient, double learning_rate, double gradient_scale) = 0;

 private:
  ParameterList parameters_;
  int64_t steps_ = 0;
};

using OptimizerFactory =
    std::function<std::unique_ptr<Optimizer>(const ParameterList& parameters, const Values& values)>;
/// The optimisers by name: adamw, adafactor.
const Registry<OptimizerFactory>& optimizers();

}  // namespace gatewright

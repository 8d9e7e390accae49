// AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization") as one pass over memory.
#pragma once

#include "gatewright/train/optimizer.h"

namespace gatewright {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // only of parameters whose `weight_decay` is true
};

class AdamW final : public Optimizer {
 public:
  /// Moments are float32 and start at zero.
  AdamW(const ParameterList& parameters, const AdamWOptions& options);
  /// The moments, with the suffixes ".first_moment" and ".second_moment".
  ParameterList state() const override;

 private:
  void update(size_t index, const Tensor& gradient, double learning_rate, double gradient_scale) override;

  struct Moments {
    Tensor first, second;
  };
  std::vector<Moments> moments_;  // of each parameter
  AdamWOptions options_;
};

}  // namespace gatewright

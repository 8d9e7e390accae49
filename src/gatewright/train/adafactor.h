// Adafactor (Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost").
#pragma once

#include "gatewright/train/optimizer.h"

namespace gatewright {

struct AdafactorOptions {
  double decay_rate = 0.8;      // the second moment of step t keeps the share 1 - t^-decay_rate (section 7)
  double clip_threshold = 1.0;  // largest root mean square of an update (section 6); 0: no limit
  double epsilon1 = 1e-30;      // added to squared gradients
  double epsilon2 = 1e-3;  // least root mean square of a parameter that updates are scaled by (section 8)
  bool scale_parameter = true;  // false: the learning rate is absolute
  double weight_decay = 0;      // decoupled, of parameters whose `weight_decay` is true
};

/// The second moment of a matrix [n, m] is kept as the means of its rows [n] and columns [m]; a tensor with
/// more axes is a stack of matrices, each by itself, and a vector keeps it whole. There is no first moment.
class Adafactor final : public Optimizer {
 public:
  Adafactor(const ParameterList& parameters, const AdafactorOptions& options);
  /// With the suffixes ".row_moment" and ".column_moment", or ".second_moment".
  ParameterList state() const override;

 private:
  void update(size_t index, const Tensor& gradient, double learning_rate, double gradient_scale) override;

  struct Moments {
    Tensor rows, columns, whole;  // the first two, or the last
  };
  std::vector<Moments> moments_;  // of each parameter
  AdafactorOptions options_;
};

}  // namespace gatewright

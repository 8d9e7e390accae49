// One optimiser step on text after another. What it needs to go on bit for bit is in its state.
#pragma once

#include <string_view>

#include "gatewright/base/json.h"
#include "gatewright/text/packing.h"
#include "gatewright/train/model_optimizer.h"

namespace gatewright {

class Trainer {
 public:
  /// `model` and `stream` are borrowed.
  Trainer(Decoder& model, TrainStream& stream, const TrainOptions& options);

  /// One step on `accumulate` batches, as if they were one. A loss or gradient that is not a number, or a
  /// loss that jumped by more than spike_factor over its running mean, is an Error (Diverged) and leaves the
  /// weights of the step before.
  StepResult step();
  int64_t steps_done() const { return optimizer_.steps_done(); }
  /// Whether steps report how far two passes over a batch are apart.
  bool has_disagreement() const { return optimizer_.passes() > 1; }
  /// Routing since the last call.
  RoutingStatistics take_statistics() { return optimizer_.take_statistics(); }
  RoutingStatistics take_head_statistics() { return optimizer_.take_head_statistics(); }

  /// Moments and buffers, to be saved with the weights.
  ParameterList state() const { return optimizer_.optimizer().state(); }
  /// Numbers, to be saved with the weights: {"step", "epoch", "position", "random": [...], "mean_loss"}.
  OrderedJson progress() const;
  /// Goes on from what state() and progress() gave.
  void restore(const ParameterList& moments, const Json& progress, std::string_view what);

 private:
  void check_loss(double loss, double norm);

  Decoder& model_;
  TrainStream& stream_;
  TrainOptions options_;
  ModelOptimizer optimizer_;
  double mean_loss_ = 0;  // running mean over about 20 steps
};

/// The training can't go on: the loss is no number or has jumped.
class Diverged : public Error {
 public:
  using Error::Error;
};

}  // namespace gatewright

// Forward, loss, backward, clip, update: optimiser steps of a decoder on batches from anywhere.
#pragma once

#include <memory>
#include <span>

#include "gatewright/models/decoder.h"
#include "gatewright/routing/statistics.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/optimizer.h"
#include "gatewright/train/options.h"
#include "gatewright/train/schedule.h"

namespace gatewright {

struct StepResult {
  double loss = 0;           // mean cross entropy in nats over the step's targets
  double bits_per_byte = 0;  // the same on the text; 0 where the bytes are not known
  double disagreement = 0;   // of an objective with two passes, nats
  double balance_loss = 0;   // weighted sum of the balance terms
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;  // predicted
};

class ModelOptimizer {
 public:
  /// `model` is borrowed. Of the options: steps, learning_rate, schedule, objective, optimizer, clip_norm and
  /// precision.
  ModelOptimizer(Decoder& model, const TrainOptions& options);

  /// Adds the gradients of the mean loss over all targets of the micro-batches, as if they were one batch.
  StepResult accumulate(std::span<const Batch> micro_batches);
  /// Applies them at the step's learning rate, clipped, and drops them.
  void update(const StepResult& result);

  int64_t steps_done() const { return optimizer_->steps(); }
  /// Passes of the objective over each batch.
  int64_t passes() const { return objective_->passes(); }
  /// Routing since the last call.
  RoutingStatistics take_statistics();
  /// The same of the heads of selective attention; empty without it.
  RoutingStatistics take_head_statistics();

  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }

 private:
  /// Of the step, in one of its micro-batches.
  struct Shares {
    double targets = 1, batches = 1;
  };
  ForwardOptions pass_options(int64_t pass) const;
  bool autocasts() const;
  void run_micro_batch(const Batch& batch, int64_t index, const Shares& shares, StepResult& result);
  /// What the objective makes of the micro-batches; empty when they stay as they are.
  std::vector<Batch> rewritten(std::span<const Batch> micro_batches) const;
  /// For balance terms that count the whole step first. The random streams stay where they were.
  void count_first(std::span<const Batch> micro_batches);

  Decoder& model_;
  TrainOptions options_;
  Schedule schedule_;
  std::unique_ptr<Objective> objective_;
  ParameterList parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  RoutingStatistics statistics_, head_statistics_;
};

}  // namespace gatewright

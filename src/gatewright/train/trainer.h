// One optimiser step after another: forward, loss, backward, clip, AdamW. What it needs to go on bit for bit
// is in its state.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/models/decoder.h"
#include "gatewright/routing/statistics.h"
#include "gatewright/text/packing.h"
#include "gatewright/train/adamw.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/options.h"
#include "gatewright/train/schedule.h"

namespace gatewright {

struct StepResult {
  double loss = 0;           // mean cross entropy in nats over the step's targets
  double bits_per_byte = 0;  // the same on the text
  double disagreement = 0;   // of an objective with two passes, nats
  double balance_loss = 0;   // weighted sum of the balance terms
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;  // predicted
};

class Trainer {
 public:
  /// `model` and `stream` are borrowed.
  Trainer(Decoder& model, TrainStream& stream, const TrainOptions& options);

  /// One step on `accumulate` batches, as if they were one. A loss or gradient that is not a number, or a
  /// loss that jumped by more than spike_factor over its running mean, is an Error (Diverged) and leaves the
  /// weights of the step before.
  StepResult step();
  int64_t steps_done() const { return optimizer_.steps(); }
  /// Whether steps report how far two passes over a batch are apart.
  bool has_disagreement() const { return objective_->passes() > 1; }
  /// Routing since the last call.
  RoutingStatistics take_statistics();

  /// Moments and buffers, to be saved with the weights.
  ParameterList state() const { return optimizer_.state(); }
  /// Numbers, to be saved with the weights: {"step", "epoch", "position", "random": [...], "mean_loss"}.
  OrderedJson progress() const;
  /// Goes on from what state() and progress() gave.
  void restore(const ParameterList& moments, const Json& progress, std::string_view what);

 private:
  /// The `index`-th of the step; `share`: of the step's targets that lie in this batch.
  void run_micro_batch(const PackedBatch& packed, int64_t index, double share, StepResult& result);
  /// For balance terms that count the whole step first. The random streams stay where they were.
  void count_micro_batches(const std::vector<PackedBatch>& batches);
  void check_loss(double loss, double norm);

  Decoder& model_;
  TrainStream& stream_;
  TrainOptions options_;
  Schedule schedule_;
  std::unique_ptr<Objective> objective_;
  ParameterList parameters_;
  AdamW optimizer_;
  RoutingStatistics statistics_;
  double mean_loss_ = 0;  // running mean over about 20 steps
};

/// The training can't go on: the loss is no number or has jumped.
class Diverged : public Error {
 public:
  using Error::Error;
};

}  // namespace gatewright

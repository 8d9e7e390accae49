// What a training tells while it runs: a line of JSON for a step, and for an evaluation.
#pragma once

#include <filesystem>
#include <fstream>

#include "gatewright/train/events.h"
#include "gatewright/train/trainer.h"
#include "gatewright/train/training_data.h"
#include "gatewright/train/validation.h"

namespace gatewright {

/// metrics.jsonl and the watcher, in one place.
class Metrics {
 public:
  Metrics(const std::filesystem::path& file, Events& events);
  void add(const OrderedJson& row);

 private:
  Events& events_;
  std::ofstream out_;
};

/// Of the step just done; takes the trainer's statistics.
OrderedJson step_row(Trainer& trainer, const StepResult& result, double tokens_per_second);
/// Of an evaluation after a step.
OrderedJson validation_row(const ValidationResult& result, const TrainingData& data, int64_t step);

}  // namespace gatewright

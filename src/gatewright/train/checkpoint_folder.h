// Where a training stands, in its output folder:
//
//   OUT/model.safetensors, config.json, tokenizer.json   when it is finished (StartingModel::save_finished)
//   OUT/training.json                                     settings, data and steps of the finished training
//   OUT/metrics.jsonl                                     one line a log step
//   OUT/checkpoint/                                       weights (StartingModel::save_checkpoint),
//                                                         optimizer.safetensors and training.json, until it
//                                                         is finished
//
// A checkpoint is written as OUT/checkpoint.partial and renamed; at every moment a whole one is there.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "gatewright/base/json.h"
#include "gatewright/routing/named_tensor.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

/// What must be equal for a training to go on, and how far it is.
struct TrainingRecord {
  std::string settings;  // Recipe::settings
  std::string data;      // fingerprint of corpus and tokenizer choice
  std::string init;      // StartingModel::fingerprint()
  Json progress;         // Trainer::progress()
};

class TrainingFolder {
 public:
  explicit TrainingFolder(std::filesystem::path out) : out_(std::move(out)) {}

  /// The record of a finished training, of a checkpoint; damaged ones are errors that name the file.
  std::optional<TrainingRecord> finished() const;
  std::optional<TrainingRecord> checkpoint() const;
  /// A model is there that no training of ours left.
  bool has_foreign_model() const;

  /// `save_weights` is given a new folder to write into.
  void save_checkpoint(const std::function<void(const std::filesystem::path&)>& save_weights,
                       const ParameterList& moments, const TrainingRecord& record) const;
  /// Where the last checkpoint lies; empty when there is none.
  std::filesystem::path existing_checkpoint() const;
  /// Its moments, read into `moments`.
  void load_moments(const ParameterList& moments) const;
  Tokenizer checkpoint_tokenizer() const;

  /// The last thing to write: from then on the training counts as finished.
  void save_record(const TrainingRecord& record) const;
  /// Removes the checkpoint (and leftovers).
  void remove_checkpoint() const;
  /// Removes everything a training of ours leaves.
  void remove_all() const;

  /// Keeps the lines of metrics.jsonl up to a step.
  void truncate_metrics(int64_t step) const;
  std::filesystem::path metrics() const { return out_ / "metrics.jsonl"; }
  const std::filesystem::path& path() const { return out_; }

 private:
  std::filesystem::path out_;
};

}  // namespace gatewright

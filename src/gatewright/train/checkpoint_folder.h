// Where a training stands, in its output folder:
//
//   OUT/model.safetensors, config.json, tokenizer.json   when it is finished
//   OUT/training.json                                     settings, data and steps of the finished training
//   OUT/metrics.jsonl                                     one line a log step
//   OUT/checkpoint/                                       a model folder with optimizer.safetensors and
//                                                         training.json, until it is finished
//
// A checkpoint is written as OUT/checkpoint.partial and renamed; at every moment a whole one is there.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "gatewright/base/json.h"
#include "gatewright/models/decoder.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

/// What must be equal for a training to go on, and how far it is.
struct TrainingRecord {
  std::string settings;  // Recipe::settings
  std::string data;      // fingerprint of corpus and tokenizer choice
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

  void save_checkpoint(const Decoder& model, const ParameterList& moments, const std::string& tokenizer_json,
                       const TrainingRecord& record) const;
  /// Reads weights into the model and moments into `moments`.
  void load_checkpoint(const Decoder& model, const ParameterList& moments) const;
  Tokenizer checkpoint_tokenizer() const;

  void save_finished(const Decoder& model, const std::string& tokenizer_json,
                     const TrainingRecord& record) const;
  /// Removes the checkpoint (and leftovers).
  void remove_checkpoint() const;
  /// Removes everything a training of ours leaves.
  void remove_all() const;

  /// Keeps the lines of metrics.jsonl up to a step.
  void truncate_metrics(int64_t step) const;
  std::filesystem::path metrics() const { return out_ / "metrics.jsonl"; }
  const std::filesystem::path& path() const { return out_; }

 private:
  std::filesystem::path existing_checkpoint() const;

  std::filesystem::path out_;
};

}  // namespace gatewright

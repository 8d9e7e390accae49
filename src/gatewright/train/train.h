// A whole training, from a recipe and paths to a model folder: prepares the data, goes on where an earlier
// run stopped, trains, evaluates, saves.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gatewright/text/corpus.h"
#include "gatewright/text/tokenizer.h"
#include "gatewright/train/events.h"
#include "gatewright/train/recipe.h"

namespace gatewright {

struct TrainRequest {
  Recipe recipe;
  std::filesystem::path out;
  std::filesystem::path cache = {};  // token cache; empty: a folder in `out`, removed when finished
  bool restart = false;              // throw away what is in `out`
  /// Instead of training one (and instead of recipe.data.tokenizer).
  const Tokenizer* tokenizer = nullptr;
};

struct TrainOutcome {
  enum class Kind { kTrained, kAlreadyFinished, kInterrupted };
  Kind kind = Kind::kTrained;
  int64_t steps = 0;
  double validation_bits_per_byte = 0;  // of a finished training
  double tokens_per_second = 0;         // of the steps of this run
};

/// Errors leave what was in `out`. Ctrl-C saves a checkpoint and returns kInterrupted.
TrainOutcome train_model(const TrainRequest& request, const Corpus& corpus, Events& events);

/// Fingerprint of what is trained on, as it stands in training.json.
std::string data_fingerprint(const Corpus& corpus, const Tokenizer* given_tokenizer);

}  // namespace gatewright

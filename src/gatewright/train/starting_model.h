// The model that a training begins with, and how it is kept: random weights of a recipe's own model, a model
// folder of ours, or a published model's file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/models/decoder.h"
#include "gatewright/text/tokenizer.h"
#include "gatewright/train/recipe.h"

namespace gatewright {

/// Bytes that a training writes, about.
struct OutputSize {
  uint64_t checkpoint = 0;  // moments included
  uint64_t finished = 0;    // the model
};

class StartingModel {
 public:
  virtual ~StartingModel() = default;

  /// Where it is read from; empty for a model with random weights.
  virtual std::filesystem::path source() const = 0;
  /// Of the weights that are read, wherever they lie; empty when there are none. A training goes on only
  /// where it is the same.
  virtual std::string fingerprint() const = 0;
  /// That of the model's file; nothing when the training brings its own.
  virtual std::optional<Tokenizer> tokenizer() const = 0;
  /// For a tokenizer of so many tokens.
  virtual DecoderSpec spec(int64_t vocab_size) const = 0;
  virtual OutputSize output_size() const = 0;

  /// The decoder on the CPU, with what is not trained frozen (Decoder::freeze). Fails (UsageError) when
  /// nothing is left to train.
  virtual Decoder make(int64_t vocab_size) const = 0;
  /// What should be known about it before the first step, a sentence each.
  virtual std::vector<std::string> notes(const Decoder& model) const = 0;

  /// All that load_checkpoint needs to give a decoder of make() these weights.
  virtual void save_checkpoint(const std::filesystem::path& folder, const Decoder& model,
                               const std::string& tokenizer_json) const = 0;
  virtual void load_checkpoint(const std::filesystem::path& folder, const Decoder& model) const = 0;
  /// The model as its users load it.
  virtual void save_finished(const std::filesystem::path& folder, const Decoder& model,
                             const std::string& tokenizer_json) const = 0;
};

/// As recipe.train.init and recipe.train.base say. Fails when there is no such model, or when it does not
/// suit the recipe.
std::unique_ptr<StartingModel> starting_model(const Recipe& recipe);

}  // namespace gatewright

// What the experiments on language share: sequences drawn from tables of successors, and a small decoder
// trained on text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/language.h"
#include "experiments/scale.h"
#include "gatewright/base/random.h"
#include "gatewright/models/decoder.h"
#include "gatewright/train/model_optimizer.h"
#include "gatewright/train/recipe.h"

namespace gatewright::experiments {

/// A language of single tokens: after each token, one of its successors.
class SuccessorLanguage : public Language {
 public:
  /// Every token of `tokens` gets `successors` different ones among them, with probabilities drawn from
  /// Dirichlet(1).
  SuccessorLanguage(std::vector<int32_t> tokens, int64_t successors, RandomStream& random);

  /// From now on a next token is, with probability `share`, any of `among` instead, evenly drawn.
  void mix_evenly(double share, std::vector<int32_t> among);

  /// length + 1 tokens, the first drawn evenly.
  std::vector<int32_t> sequence(int64_t length, RandomStream& random) const override;

 private:
  struct Next {
    std::vector<int32_t> token;
    std::vector<double> up_to;  // cumulative probabilities
  };
  std::vector<int32_t> tokens_;
  std::vector<Next> next_;  // of each token id
  double even_share_ = 0;
  std::vector<int32_t> among_;
};

/// Rows of length + 1 tokens -> inputs and targets.
Batch batch_of(const std::vector<std::vector<int32_t>>& rows);

/// `rows` sequences of length + 1 tokens, the languages taking turns.
Batch text_of(const Languages& languages, int64_t rows, int64_t length, RandomStream& random);

/// A decoder with its optimiser: AdamW with LibTorch's defaults (0.9, 0.999, decay 0.01).
class SmallModel {
 public:
  /// recipe: [model], [experts], [routing] and [balance] as in a recipe, but for the vocabulary, which may be
  /// smaller than that of any text, and the objective of [train]. num_steps: of the whole training, for what
  /// follows a schedule; 0: not told.
  SmallModel(const std::string& recipe, int64_t vocabulary, uint64_t seed, double learning_rate,
             int64_t num_steps = 0);

  /// One optimiser step on the mean of the batches' losses, balance terms included.
  struct Step {
    double cross_entropy = 0;                    // mean over the batches
    std::vector<double> experts_per_token = {};  // of each routed layer
  };
  Step step(const std::vector<Batch>& micro_batches);

  struct Evaluation {
    double cross_entropy = 0;
    std::vector<RoutingRecord> routing = {};
    std::vector<RoutingRecord> attention = {};  // with selective attention
    std::vector<double> experts_per_token = {};
  };
  Evaluation evaluate(const Batch& batch);

  Decoder& decoder() { return decoder_; }

 private:
  SmallModel(const Recipe& recipe, uint64_t seed, double learning_rate, int64_t num_steps);

  Decoder decoder_;
  ModelOptimizer optimizer_;
};

/// Trains for the scale's steps on text of the languages, which take turns.
void train(SmallModel& model, const Languages& languages, const Scale& scale, RandomStream& text,
           const std::function<void()>& stepped);

/// Gives the parameters of `to` the values of those of the same names in `from`, each of which it must have;
/// it may have more.
void copy_parameters(const Decoder& from, const Decoder& to);

double mean_of(const std::vector<double>& values);

}  // namespace gatewright::experiments

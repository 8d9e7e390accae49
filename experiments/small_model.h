// What the experiments on generated language share: sequences drawn from tables of successors, and a small
// decoder trained on them.
#pragma once

#include <string>
#include <vector>

#include "experiments/language.h"
#include "gatewright/base/random.h"
#include "gatewright/models/decoder.h"
#include "gatewright/train/model_optimizer.h"

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

/// How much a language model's experiment computes.
struct Scale {
  int64_t hidden_size, num_layers, width;  // of the model; width: of one expert
  int64_t length, rows;                    // sequences of a step
  int64_t steps;
  int64_t fresh_rows;  // sequences of the evaluation, of each domain or of all

  /// Standard deviation of initial weights: the spread with which linear maps of this size usually begin.
  double init() const;
  /// [model] with four heads.
  std::string model_recipe() const;
};

/// The scale of the budget full: a model of four layers on 2,048 tokens a step.
Scale full_scale(int64_t width, int64_t steps = 1500);

/// A decoder with its optimiser: AdamW with LibTorch's defaults (0.9, 0.999, decay 0.01).
class SmallModel {
 public:
  /// recipe: [model], [experts], [routing] and [balance] as in a recipe, but for the vocabulary, which may be
  /// smaller than that of any text. num_steps: of the whole training, for what follows a schedule; 0: not
  /// told.
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
  Decoder decoder_;
  ModelOptimizer optimizer_;
};

/// Gives the parameters of `to` the values of those of the same names in `from`, each of which it must have;
/// it may have more.
void copy_parameters(const Decoder& from, const Decoder& to);

double mean_of(const std::vector<double>& values);

}  // namespace gatewright::experiments

#include "experiments/small_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/base/error.h"
#include "gatewright/layers/cross_entropy.h"

namespace gatewright::experiments {
namespace {

std::vector<double> experts_per_token(const std::vector<RoutingRecord>& routing) {
  std::vector<double> means;
  for (const RoutingRecord& r : routing)
    means.push_back(static_cast<double>(r.assignment.token.size(0)) /
                    static_cast<double>(r.assignment.num_tokens));
  return means;
}

Recipe small_recipe(const std::string& text, int64_t vocabulary) {
  Recipe recipe = make_recipe(text, "the experiment's recipe");
  recipe.model.vocab_size = vocabulary;
  return recipe;
}

/// AdamW with LibTorch's defaults at a constant rate, no clipping.
TrainOptions small_options(const Piece& objective, double learning_rate, int64_t num_steps) {
  TrainOptions options{.steps = num_steps, .learning_rate = learning_rate};
  options.schedule = make_piece(schedules(), "constant");
  options.objective = objective;
  options.optimizer = make_piece(optimizers(), "adamw", {{"beta2", 0.999}, {"weight_decay", 0.01}});
  options.clip_norm = 0;
  return options;
}

Tensor cross_entropy_of(Decoder& decoder, const DecoderOutput& output, const Batch& batch) {
  return linear_cross_entropy(output.hidden.reshape({-1, decoder.spec().hidden_size}), decoder.head(),
                              batch.targets.reshape({-1}));
}

}  // namespace

SuccessorLanguage::SuccessorLanguage(std::vector<int32_t> tokens, int64_t successors, RandomStream& random)
    : tokens_(std::move(tokens)) {
  next_.resize(static_cast<size_t>(std::ranges::max(tokens_)) + 1);
  for (int32_t token : tokens_) {
    std::vector<int32_t> others = tokens_;
    random.shuffle(std::span(others));
    others.resize(static_cast<size_t>(successors));
    Next& next = next_[static_cast<size_t>(token)];
    double sum = 0;
    for (int32_t other : others) {
      next.token.push_back(other);
      next.up_to.push_back(sum +=
                           -std::log1p(-random.uniform_double()));  // exponentials: Dirichlet(1) once divided
    }
    for (double& p : next.up_to) p /= sum;
  }
}

void SuccessorLanguage::mix_evenly(double share, std::vector<int32_t> among) {
  for (int32_t token : among)
    require(std::ranges::find(tokens_, token) != tokens_.end(), "token {} is none of the language", token);
  even_share_ = share;
  among_ = std::move(among);
}

std::vector<int32_t> SuccessorLanguage::sequence(int64_t length, RandomStream& random) const {
  std::vector<int32_t> row = {tokens_[random.below(tokens_.size())]};
  while (std::ssize(row) <= length) {
    if (even_share_ > 0 && random.uniform_double() < even_share_) {
      row.push_back(among_[random.below(among_.size())]);
      continue;
    }
    const Next& next = next_[static_cast<size_t>(row.back())];
    const auto it = std::ranges::upper_bound(next.up_to, random.uniform_double());
    row.push_back(next.token[std::min(next.token.size() - 1, static_cast<size_t>(it - next.up_to.begin()))]);
  }
  return row;
}

Batch batch_of(const std::vector<std::vector<int32_t>>& rows) {
  const auto count = std::ssize(rows), length = std::ssize(rows.front()) - 1;
  Batch batch{.tokens = at::empty({count, length}, at::kLong),
              .targets = at::empty({count, length}, at::kLong)};
  auto *token = batch.tokens.data_ptr<int64_t>(), *target = batch.targets.data_ptr<int64_t>();
  for (const std::vector<int32_t>& row : rows) {
    token = std::copy(row.begin(), row.end() - 1, token);
    target = std::copy(row.begin() + 1, row.end(), target);
  }
  return batch;
}

Batch text_of(const Languages& languages, int64_t rows, int64_t length, RandomStream& random) {
  std::vector<std::vector<int32_t>> text;
  for (int64_t r = 0; r < rows; ++r)
    text.push_back(languages[static_cast<size_t>(r % std::ssize(languages))]->sequence(length, random));
  return batch_of(text);
}

SmallModel::SmallModel(const std::string& recipe, int64_t vocabulary, uint64_t seed, double learning_rate,
                       int64_t num_steps)
    : SmallModel(small_recipe(recipe, vocabulary), seed, learning_rate, num_steps) {}

SmallModel::SmallModel(const Recipe& recipe, uint64_t seed, double learning_rate, int64_t num_steps)
    : decoder_(recipe.model, seed),
      optimizer_(decoder_, small_options(recipe.train.objective, learning_rate, num_steps)) {}

SmallModel::Step SmallModel::step(const std::vector<Batch>& micro_batches) {
  const StepResult result = optimizer_.accumulate(micro_batches);
  optimizer_.update(result);
  const RoutingStatistics routing = optimizer_.take_statistics();
  Step step{.cross_entropy = result.loss};
  for (const LayerStatistics& layer : routing.layers())
    step.experts_per_token.push_back(layer.experts_per_token());
  return step;
}

SmallModel::Evaluation SmallModel::evaluate(const Batch& batch) {
  const at::NoGradGuard no_grad;
  const DecoderOutput output = decoder_.forward(batch);
  return {.cross_entropy = cross_entropy_of(decoder_, output, batch).item<double>(),
          .routing = output.routing,
          .attention = output.attention,
          .experts_per_token = experts_per_token(output.routing)};
}

void train(SmallModel& model, const Languages& languages, const Scale& scale, RandomStream& text,
           const std::function<void()>& stepped) {
  for (int64_t step = 0; step < scale.steps; ++step) {
    model.step({text_of(languages, scale.rows, scale.length, text)});
    stepped();
  }
}

void copy_parameters(const Decoder& from, const Decoder& to) {
  const at::NoGradGuard no_grad;
  const ParameterList targets = to.parameters();
  for (const NamedTensor& p : from.parameters()) {
    const auto target = std::ranges::find(targets, p.name, &NamedTensor::name);
    require(target != targets.end() && target->tensor.sizes() == p.tensor.sizes(),
            "the parameter {} cannot be taken over: the other model has none of this name and shape", p.name);
    target->tensor.copy_(p.tensor);
  }
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace gatewright::experiments

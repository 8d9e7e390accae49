#include "gatewright/train/model_optimizer.h"

#include <numeric>

#include "gatewright/train/autocast.h"

namespace gatewright {
namespace {

/// [num_batches] predicted tokens.
std::vector<int64_t> count_targets(std::span<const Batch> batches) {
  std::vector<int64_t> counts;
  for (const Batch& batch : batches) counts.push_back(batch.targets.ge(0).sum().item<int64_t>());
  return counts;
}

}  // namespace

ModelOptimizer::ModelOptimizer(Decoder& model, const TrainOptions& options)
    : model_(model),
      options_(options),
      schedule_(schedules().at(options.schedule.name).make(options.schedule.values)),
      objective_(objectives().at(options.objective.name).make(options.objective.values)),
      parameters_(model.parameters()),
      optimizer_(optimizers().at(options.optimizer.name).make(parameters_, options.optimizer.values)) {}

ForwardOptions ModelOptimizer::pass_options(int64_t pass) const {
  return {.training = true, .step = steps_done(), .num_steps = options_.steps, .micro_batch = pass};
}

bool ModelOptimizer::autocasts() const { return options_.precision == "bfloat16" && model_.head().is_cuda(); }

void ModelOptimizer::count_first(std::span<const Batch> micro_batches) {
  const at::NoGradGuard no_grad;
  const Autocast autocast(autocasts());
  const std::vector<uint64_t> random = model_.random_state();
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    ForwardOptions options = pass_options(static_cast<int64_t>(i));
    options.counting = true;
    model_.forward(micro_batches[i], options);
  }
  model_.set_random_state(random);
}

void ModelOptimizer::run_micro_batch(const Batch& batch, int64_t index, const Shares& shares,
                                     StepResult& result) {
  ObjectiveValue value;
  Tensor loss;
  {
    const Autocast autocast(autocasts());
    std::vector<Tensor> hidden;
    Tensor balance;
    for (int64_t pass = 0; pass < objective_->passes(); ++pass) {
      const DecoderOutput output = model_.forward(batch, pass_options(index * objective_->passes() + pass));
      hidden.push_back(output.hidden.reshape({-1, model_.spec().hidden_size}));
      if (output.balance_loss.defined())
        balance = balance.defined() ? balance + output.balance_loss : output.balance_loss;
      statistics_.add(output.routing, batch.real);
      head_statistics_.add(output.attention, batch.real);
    }
    value = objective_->value(hidden, model_.head(), batch.targets.reshape({-1}));
    loss = shares.targets == 1 ? value.loss : value.loss * shares.targets;
    if (balance.defined()) {
      loss = loss + (shares.batches == 1 ? balance : balance * shares.batches);
      result.balance_loss += balance.item<double>() * shares.batches;
    }
  }
  loss.backward();
  result.loss += value.cross_entropy.item<double>() * shares.targets;
  if (value.disagreement.defined()) result.disagreement += value.disagreement.item<double>() * shares.targets;
}

std::vector<Batch> ModelOptimizer::rewritten(std::span<const Batch> micro_batches) const {
  std::vector<Batch> all;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    auto batch = objective_->rewritten(micro_batches[i], {.step = steps_done(),
                                                          .num_steps = options_.steps,
                                                          .micro_batch = static_cast<int64_t>(i),
                                                          .vocab_size = model_.spec().vocab_size});
    if (batch) all.push_back(std::move(*batch));
  }
  return all;
}

StepResult ModelOptimizer::accumulate(std::span<const Batch> micro_batches) {
  const std::vector<Batch> other = rewritten(micro_batches);
  if (!other.empty()) micro_batches = other;
  const std::vector<int64_t> targets = count_targets(micro_batches);
  StepResult result{.tokens = std::accumulate(targets.begin(), targets.end(), int64_t{0})};
  if (micro_batches.size() > 1 && model_.wants_counting_pass()) count_first(micro_batches);
  // Every target weighs the same, whichever micro-batch it is in.
  for (size_t i = 0; i < micro_batches.size(); ++i)
    run_micro_batch(micro_batches[i], static_cast<int64_t>(i),
                    {.targets = static_cast<double>(targets[i]) / static_cast<double>(result.tokens),
                     .batches = 1 / static_cast<double>(micro_batches.size())},
                    result);
  result.gradient_norm = gradient_norm(parameters_);
  result.learning_rate = options_.learning_rate * schedule_(steps_done(), options_.steps);
  return result;
}

void ModelOptimizer::update(const StepResult& result) {
  optimizer_->step(result.learning_rate, clip_factor(result.gradient_norm, options_.clip_norm));
  optimizer_->zero_grad();
  model_.end_step();
}

RoutingStatistics ModelOptimizer::take_statistics() { return std::exchange(statistics_, {}); }

RoutingStatistics ModelOptimizer::take_head_statistics() { return std::exchange(head_statistics_, {}); }

}  // namespace gatewright

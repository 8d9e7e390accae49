#include "gatewright/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gatewright/train/autocast.h"
#include "gatewright/train/packed_tensors.h"

namespace gatewright {
namespace {

constexpr int64_t kStepsBeforeSpikes = 20;  // a mean over fewer steps says little

}  // namespace

Trainer::Trainer(Decoder& model, TrainStream& stream, const TrainOptions& options)
    : model_(model),
      stream_(stream),
      options_(options),
      schedule_(schedules().at(options.schedule.name).make(options.schedule.values)),
      objective_(objectives().at(options.objective.name).make(options.objective.values)),
      parameters_(model.parameters()),
      optimizer_(parameters_, options.optimizer) {}

void Trainer::count_micro_batches(const std::vector<PackedBatch>& batches) {
  const at::NoGradGuard no_grad;
  const Autocast autocast(options_.precision == "bfloat16" && model_.head().is_cuda());
  const std::vector<uint64_t> random = model_.random_state();
  for (size_t i = 0; i < batches.size(); ++i)
    model_.forward(to_batch(batches[i], model_.head().device()), {.training = true,
                                                                  .step = steps_done(),
                                                                  .num_steps = options_.steps,
                                                                  .micro_batch = static_cast<int64_t>(i),
                                                                  .counting = true});
  model_.set_random_state(random);
}

void Trainer::run_micro_batch(const PackedBatch& packed, int64_t index, double share, StepResult& result) {
  const Batch batch = to_batch(packed, model_.head().device());
  ObjectiveValue value;
  Tensor loss;
  {
    const Autocast autocast(options_.precision == "bfloat16" && model_.head().is_cuda());
    std::vector<Tensor> hidden;
    Tensor balance;
    for (int64_t pass = 0; pass < objective_->passes(); ++pass) {
      const DecoderOutput output =
          model_.forward(batch, {.training = true,
                                 .step = steps_done(),
                                 .num_steps = options_.steps,
                                 .micro_batch = index * objective_->passes() + pass});
      hidden.push_back(output.hidden.reshape({-1, model_.spec().hidden_size}));
      if (output.balance_loss.defined())
        balance = balance.defined() ? balance + output.balance_loss : output.balance_loss;
      statistics_.add(output.routing);
    }
    value = objective_->value(hidden, model_.head(), batch.targets.reshape({-1}));
    loss = share == 1 ? value.loss : value.loss * share;
    if (balance.defined()) {
      const auto batches = static_cast<double>(options_.accumulate);
      loss = loss + (batches == 1 ? balance : balance / batches);
      result.balance_loss += balance.item<double>() / batches;
    }
  }
  loss.backward();
  result.loss += value.cross_entropy.item<double>() * share;
  if (value.disagreement.defined()) result.disagreement += value.disagreement.item<double>() * share;
}

void Trainer::check_loss(double loss, double norm) {
  if (!std::isfinite(loss) || !std::isfinite(norm))
    throw Diverged(fmt::format(
        "the training diverged at step {}: the {} is not a number. A lower train.learning_rate, a longer "
        "train.warmup_steps or a smaller train.clip_norm usually helps",
        steps_done() + 1, std::isfinite(loss) ? "gradient" : "loss"));
  if (options_.spike_factor > 0 && steps_done() >= kStepsBeforeSpikes &&
      loss > options_.spike_factor * mean_loss_)
    throw Diverged(
        fmt::format("the training diverged at step {}: the loss jumped to {:.3f} from a mean of {:.3f} "
                    "(train.spike_factor is "
                    "{:g}). A lower train.learning_rate or a longer train.warmup_steps usually helps",
                    steps_done() + 1, loss, mean_loss_, options_.spike_factor));
  const double keep =
      std::min(0.95, static_cast<double>(steps_done()) / static_cast<double>(steps_done() + 1));
  mean_loss_ = keep * mean_loss_ + (1 - keep) * loss;
}

StepResult Trainer::step() {
  std::vector<PackedBatch> batches;
  std::vector<int64_t> targets;
  StepResult result;
  int64_t bytes = 0;
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    batches.push_back(stream_.next(options_.batch_size));
    targets.push_back(std::ranges::count_if(batches.back().targets, [](int32_t t) { return t >= 0; }));
    result.tokens += targets.back();
    bytes += batches.back().bytes;
  }
  if (batches.size() > 1 && model_.wants_counting_pass()) count_micro_batches(batches);
  // Every target weighs the same, whichever micro-batch it is in.
  for (size_t i = 0; i < batches.size(); ++i)
    run_micro_batch(batches[i], static_cast<int64_t>(i),
                    static_cast<double>(targets[i]) / static_cast<double>(result.tokens), result);
  if (bytes > 0)
    result.bits_per_byte =
        result.loss * static_cast<double>(result.tokens) / std::numbers::ln2 / static_cast<double>(bytes);
  result.gradient_norm = gradient_norm(parameters_);
  check_loss(result.loss, result.gradient_norm);
  result.learning_rate = options_.learning_rate * schedule_(steps_done(), options_.steps);
  optimizer_.step(result.learning_rate, clip_factor(result.gradient_norm, options_.clip_norm));
  optimizer_.zero_grad();
  model_.end_step();
  return result;
}

RoutingStatistics Trainer::take_statistics() { return std::exchange(statistics_, {}); }

OrderedJson Trainer::progress() const {
  const TrainStream::State at = stream_.state();
  return {{"step", steps_done()},
          {"epoch", at.epoch},
          {"position", at.position},
          {"random", model_.random_state()},
          {"mean_loss", mean_loss_}};
}

void Trainer::restore(const ParameterList& moments, const Json& progress, std::string_view what) {
  const auto whole = [&](const char* key) {
    const Json& value = progress.at(key);
    require(value.is_number_integer(), "its {} is no whole number", key);
    return value.get<int64_t>();
  };
  try {
    const int64_t step = whole("step");
    require(step >= 0 && step <= options_.steps, "it ends with step {} of {}", step, options_.steps);
    stream_.seek({.epoch = whole("epoch"), .position = whole("position")});
    model_.set_random_state(progress.at("random").get<std::vector<uint64_t>>());
    mean_loss_ = progress.at("mean_loss").get<double>();
    optimizer_.load_state(moments, step);
  } catch (const Error& e) {
    fail("{} is damaged: {}", what, e.what());
  } catch (const Json::exception& e) {
    fail("{} is not a training's state: {}", what, e.what());
  }
}

}  // namespace gatewright

#include "gatewright/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gatewright/train/packed_tensors.h"

namespace gatewright {
namespace {

constexpr int64_t kStepsBeforeSpikes = 20;  // a mean over fewer steps says little

}  // namespace

Trainer::Trainer(Decoder& model, TrainStream& stream, const TrainOptions& options)
    : model_(model), stream_(stream), options_(options), optimizer_(model, options) {}

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
  std::vector<Batch> batches;
  int64_t bytes = 0, places = 0;
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const PackedBatch packed = stream_.next(options_.batch_size);
    batches.push_back(to_batch(packed, model_.device()));
    bytes += packed.bytes;
    places += std::ranges::count_if(packed.targets, [](int32_t target) { return target >= 0; });
  }
  StepResult result = optimizer_.accumulate(batches);
  if (bytes > 0)
    result.bits_per_byte =
        result.loss * static_cast<double>(places) / std::numbers::ln2 / static_cast<double>(bytes);
  check_loss(result.loss, result.gradient_norm);
  optimizer_.update(result);
  return result;
}

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
    optimizer_.optimizer().load_state(moments, step);
  } catch (const Error& e) {
    fail("{} is damaged: {}", what, e.what());
  } catch (const Json::exception& e) {
    fail("{} is not a training's state: {}", what, e.what());
  }
}

}  // namespace gatewright

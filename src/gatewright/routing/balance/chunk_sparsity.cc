#include "gatewright/routing/balance/chunk_sparsity.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

constexpr double kAddend = 1e-5;

/// What AdaptiveFactor::state holds. The factor is on a line from kFrom to kTo over the current window.
enum State { kFrom, kTo, kInWindow, kSteps, kMeanBefore, kSum, kStateSize };

/// The first `length` tokens of each sequence of a tensor [T, ...].
Tensor heads(const Tensor& tensor, int64_t num_sequences, int64_t length) {
  if (!tensor.defined() || tensor.size(0) == num_sequences * length) return tensor;
  const int64_t whole = tensor.size(0) / num_sequences;
  return tensor.unflatten(0, {num_sequences, whole}).slice(1, 0, length).flatten(0, 1);
}

}  // namespace

Tensor follows_predecessor(int64_t num_tokens, int64_t num_sequences, const Tensor& first_key,
                           const Tensor& real, const at::Device& device) {
  const auto ids = at::TensorOptions().dtype(at::kLong).device(device);
  const Tensor place =
      at::arange(num_tokens, ids).remainder(std::max<int64_t>(1, num_tokens / num_sequences));
  Tensor follows = place > (first_key.defined() ? first_key.to(device, at::kLong) : at::zeros_like(place));
  if (real.defined())
    follows = follows.logical_and(real).slice(0, 1).logical_and(real.slice(0, 0, num_tokens - 1));
  return real.defined() ? follows : follows.slice(0, 1);
}

Tensor activation_locality_loss(const Tensor& raw, const Tensor& follows, double steepness) {
  const int64_t num_tokens = raw.size(0);
  if (num_tokens < 2) return raw.sum() * 0;
  // A masked expert (-inf) is off in both tokens, which is no difference.
  const Tensor sharp = raw.clamp_min(-1e4) * steepness;
  const Tensor before = sharp.slice(0, 0, num_tokens - 1), target = at::sigmoid(sharp.slice(0, 1));
  const Tensor entropy = before.clamp_min(0) - before * target + at::log1p(at::exp(-before.abs()));
  const Tensor pairs = follows.to(entropy.scalar_type());
  return (entropy.mean(-1) * pairs).sum() / pairs.sum().clamp_min(1);
}

Tensor chunk_sparsity_loss(const Tensor& p, int64_t chunk, const Tensor& real) {
  require(chunk >= 1 && p.size(0) % chunk == 0, "[chunk_sparsity] {} tokens can't be cut into chunks of {}",
          p.size(0), chunk);
  const Tensor active = real.defined() ? p * real.to(p.scalar_type()).unsqueeze(-1) : p;
  const Tensor unused = at::log(1 - active + kAddend).view({-1, chunk, p.size(1)}).sum(1);
  return 1 - at::exp(unused).mean();
}

Tensor ActivationLocality::loss(const Scores& scores, const Assignment&, const RoutingContext& context) {
  if (scores.num_tokens() == 0) return {};
  const Tensor follows = follows_predecessor(scores.num_tokens(), context.num_sequences, context.first_key,
                                             context.real_tokens, scores.logits.device());
  return activation_locality_loss(scores.logits, follows, steepness_);
}

AdaptiveFactor::AdaptiveFactor(const AdaptiveOptions& options)
    : options_(options), state_(at::zeros({kStateSize}, at::kFloat)) {
  require(options.window >= 1 && options.stable >= 0 && options.min_factor >= 1 && options.max_factor >= 1,
          "[chunk_sparsity] window must be at least 1, stable not negative, min_factor and max_factor at "
          "least 1");
  state_[kFrom] = 1.0f;
  state_[kTo] = 1.0f;
}

double AdaptiveFactor::value() const {
  const Tensor plain = state_.to(at::kCPU);
  const float* s = plain.data_ptr<float>();
  const double progress = (static_cast<double>(s[kInWindow]) + 1) / static_cast<double>(options_.window);
  return s[kFrom] + (static_cast<double>(s[kTo]) - s[kFrom]) * progress;
}

void AdaptiveFactor::observe(double loss) {
  const auto now = static_cast<float>(value());
  const Tensor plain = state_.to(at::kCPU).clone();
  float* s = plain.data_ptr<float>();
  s[kSum] += static_cast<float>(loss);
  s[kInWindow] += 1;
  s[kSteps] = std::min(s[kSteps] + 1, static_cast<float>(std::max(options_.stable, 2 * options_.window)));
  if (static_cast<int64_t>(s[kInWindow]) == options_.window) {
    const float mean = s[kSum] / static_cast<float>(options_.window), before = s[kMeanBefore];
    const auto steps = static_cast<int64_t>(s[kSteps]);
    double ratio = 1;
    if (steps >= options_.stable && steps >= 2 * options_.window && before > 0) {
      ratio = static_cast<double>(mean) / before;
      if (ratio > 1) ratio = std::max(ratio, options_.min_factor);
    }
    s[kFrom] = now;
    s[kTo] = static_cast<float>(std::min(now * ratio, options_.max_factor));
    s[kMeanBefore] = mean;
    s[kSum] = 0;
    s[kInWindow] = 0;
  }
  state_.copy_(plain);
}

ChunkSparsity::ChunkSparsity(int64_t chunk, const AdaptiveOptions& options)
    : chunk_(chunk), adaptive_(options) {
  require(chunk >= 1, "[chunk_sparsity] chunk must be at least 1, got {}", chunk);
}

Tensor ChunkSparsity::loss(const Scores& scores, const Assignment&, const RoutingContext& context) {
  const int64_t length = scores.num_tokens() / std::max<int64_t>(1, context.num_sequences);
  require(!context.training || length % chunk_ == 0,
          "layer {}: [chunk_sparsity] sequences of {} tokens can't be cut into chunks of {}", context.layer,
          length, chunk_);
  const int64_t whole = length / chunk_ * chunk_;
  if (whole == 0) return {};
  Tensor loss = chunk_sparsity_loss(heads(distribution(scores), context.num_sequences, whole), chunk_,
                                    heads(context.real_tokens, context.num_sequences, whole));
  if (context.training) {
    loss_sum_ += loss.item<double>();
    ++num_losses_;
  }
  return loss;
}

std::optional<double> ChunkSparsity::observation() const {
  if (num_losses_ == 0) return std::nullopt;
  return loss_sum_ / static_cast<double>(num_losses_);
}

void ChunkSparsity::end_step() {
  loss_sum_ = 0;
  num_losses_ = 0;
}

void ChunkSparsity::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".chunk_sparsity.state",
                        .tensor = adaptive_.state(),
                        .weight_decay = false,
                        .trainable = false});
}

}  // namespace gatewright

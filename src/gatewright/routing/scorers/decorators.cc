#include "gatewright/routing/scorers/decorators.h"

#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

constexpr int64_t kDrawsPerThread = 4096;

RandomStream& stream(const RoutingContext& context, std::string_view what) {
  require(context.random != nullptr, "layer {}: {} needs a random stream in training", context.layer, what);
  return *context.random;
}

}  // namespace

Jitter::Jitter(std::unique_ptr<Scorer> inner, double epsilon) : inner_(std::move(inner)), epsilon_(epsilon) {}

Tensor Jitter::logits(const Tensor& hidden, const RoutingContext& context) {
  if (!context.training) return inner_->logits(hidden, context);
  RandomStream& random = stream(context, "jitter");
  Tensor factor = at::empty(hidden.sizes(), at::kFloat);
  float* values = factor.data_ptr<float>();
  const auto width = static_cast<float>(2 * epsilon_), low = static_cast<float>(1 - epsilon_);
  const uint64_t start = random.position();  // one word a draw: every thread knows where its own begin
  parallel_for(0, factor.numel(), kDrawsPerThread, [&](int64_t begin, int64_t end) {
    RandomStream mine = random;
    mine.seek(start + static_cast<uint64_t>(begin));
    for (int64_t i = begin; i < end; ++i) values[i] = low + width * mine.uniform();
  });
  random.seek(start + static_cast<uint64_t>(factor.numel()));
  return inner_->logits(hidden * factor.to(hidden.device()), context);
}

Noise::Noise(std::unique_ptr<Scorer> inner, double standard_deviation, bool learned, const RouterSizes& sizes)
    : inner_(std::move(inner)), standard_deviation_(standard_deviation) {
  if (learned) weight_ = constant_parameter({sizes.num_experts, sizes.hidden_size}, 0);
}

Tensor Noise::logits(const Tensor& hidden, const RoutingContext& context) {
  const Tensor clean = inner_->logits(hidden, context);
  if (!context.training) return clean;
  const Tensor noise =
      normal_parameter(clean.sizes(), 1.0, stream(context, "noise")).detach().to(clean.device());
  if (!weight_.defined()) return clean + noise * standard_deviation_;
  return clean + noise * at::softplus(hidden.mm(weight_.t()));
}

void Noise::collect(ParameterList& parameters, const std::string& prefix) const {
  inner_->collect(parameters, prefix);
  if (weight_.defined()) parameters.push_back({.name = prefix + ".noise.weight", .tensor = weight_});
}

LogitBias::LogitBias(std::unique_ptr<Scorer> inner, const std::vector<double>& bias, const RouterSizes& sizes)
    : inner_(std::move(inner)) {
  if (static_cast<int64_t>(bias.size()) != sizes.num_experts) {
    fail_usage("[logit_bias] {} values for {} experts; one value an expert is needed", bias.size(),
               sizes.num_experts);
  }
  bias_ = at::empty({sizes.num_experts}, at::kFloat);
  for (size_t e = 0; e < bias.size(); ++e) bias_.data_ptr<float>()[e] = static_cast<float>(bias[e]);
}

Tensor LogitBias::logits(const Tensor& hidden, const RoutingContext& context) {
  return inner_->logits(hidden, context) + bias_.to(hidden.device());
}

Omit::Omit(std::unique_ptr<Scorer> inner, const std::vector<int64_t>& experts, const RouterSizes& sizes)
    : inner_(std::move(inner)), omitted_(at::zeros({sizes.num_experts}, at::kBool)) {
  for (int64_t e : experts) {
    if (e < 0 || e >= sizes.num_experts)
      fail_usage("[omit] there is no expert {}; the experts are 0 to {}", e, sizes.num_experts - 1);
    omitted_.data_ptr<bool>()[e] = true;
  }
  if (omitted_.all().item<bool>())
    fail_usage("[omit] all {} experts are omitted; at least one must stay", sizes.num_experts);
}

Tensor Omit::logits(const Tensor& hidden, const RoutingContext& context) {
  return inner_->logits(hidden, context)
      .masked_fill(omitted_.to(hidden.device()), -std::numeric_limits<float>::infinity());
}

}  // namespace gatewright

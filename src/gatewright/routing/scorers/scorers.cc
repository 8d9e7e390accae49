#include "gatewright/routing/scorers/scorers.h"

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/parallel.h"

namespace gatewright {

void check_width(const Tensor& hidden, const Tensor& weight, const RoutingContext& context) {
  require(hidden.size(1) == weight.size(1), "layer {}: the router reads hidden states of width {}, got {}",
          context.layer, weight.size(1), hidden.size(1));
}

LinearScorer::LinearScorer(const RouterSizes& sizes, bool bias, double standard_deviation,
                           RandomStream& random)
    : weight_(normal_parameter({sizes.num_experts, sizes.hidden_size}, standard_deviation, random)) {
  if (bias) bias_ = constant_parameter({sizes.num_experts}, 0);
}

std::unique_ptr<LinearScorer> LinearScorer::kaiming_uniform(const RouterSizes& sizes, bool bias,
                                                            RandomStream& random) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(sizes.hidden_size));
  const auto drawn = [&](at::IntArrayRef shape) {
    return uniform_tensor(shape, bound, random).set_requires_grad(true);
  };
  auto scorer = std::unique_ptr<LinearScorer>(new LinearScorer);
  scorer->weight_ = drawn({sizes.num_experts, sizes.hidden_size});
  if (bias) scorer->bias_ = drawn({sizes.num_experts});
  return scorer;
}

Tensor LinearScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, weight_, context);
  const Tensor scores = hidden.mm(weight_.t());
  return bias_.defined() ? scores + bias_ : scores;
}

void LinearScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".weight", .tensor = weight_});
  if (bias_.defined())
    parameters.push_back({.name = prefix + ".bias", .tensor = bias_, .weight_decay = false});
}

CosineScorer::CosineScorer(const RouterSizes& sizes, int64_t projection_size, double temperature,
                           RandomStream& random)
    : projection_(normal_parameter({projection_size, sizes.hidden_size},
                                   1.0 / std::sqrt(static_cast<double>(sizes.hidden_size)), random)),
      embedding_(normal_parameter({sizes.num_experts, projection_size},
                                  1.0 / std::sqrt(static_cast<double>(projection_size)), random)),
      log_temperature_(constant_parameter({}, std::log(temperature))) {}

Tensor CosineScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, projection_, context);
  const auto unit = [](const Tensor& x) { return x / x.norm(2, -1, /*keepdim=*/true).clamp_min(1e-6); };
  return unit(hidden.mm(projection_.t())).mm(unit(embedding_).t()) * at::exp(-log_temperature_);
}

void CosineScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".projection.weight", .tensor = projection_});
  parameters.push_back({.name = prefix + ".embedding.weight", .tensor = embedding_});
  parameters.push_back(
      {.name = prefix + ".log_temperature", .tensor = log_temperature_, .weight_decay = false});
}

MlpScorer::MlpScorer(const RouterSizes& sizes, int64_t width, Nonlinearity nonlinearity,
                     double standard_deviation, RandomStream& random)
    : weight1_(normal_parameter({width, sizes.hidden_size}, standard_deviation, random)),
      bias1_(constant_parameter({width}, 0)),
      weight2_(normal_parameter({sizes.num_experts, width}, standard_deviation, random)),
      bias2_(constant_parameter({sizes.num_experts}, 0)),
      nonlinearity_(nonlinearity) {}

Tensor MlpScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, weight1_, context);
  const Tensor inner = at::addmm(bias1_, hidden, weight1_.t());
  const Tensor active = nonlinearity_ == Nonlinearity::kTanh   ? at::tanh(inner)
                        : nonlinearity_ == Nonlinearity::kRelu ? at::relu(inner)
                                                               : at::silu(inner);
  return at::addmm(bias2_, active, weight2_.t());
}

void MlpScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".fc1.weight", .tensor = weight1_});
  parameters.push_back({.name = prefix + ".fc1.bias", .tensor = bias1_, .weight_decay = false});
  parameters.push_back({.name = prefix + ".fc2.weight", .tensor = weight2_});
  parameters.push_back({.name = prefix + ".fc2.bias", .tensor = bias2_, .weight_decay = false});
}

HashScorer::HashScorer(const RouterSizes& sizes, int64_t seed, double spread)
    : num_experts_(sizes.num_experts), seed_(seed), spread_(spread) {}

Tensor HashScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  require(context.token_ids.defined() && context.token_ids.numel() == hidden.size(0),
          "layer {}: the scorer hash needs the token ids of the {} tokens", context.layer, hidden.size(0));
  const Tensor ids = context.token_ids.to(at::kCPU).contiguous();
  Tensor result = at::empty({ids.numel(), num_experts_}, at::kFloat);
  const int64_t* id = ids.data_ptr<int64_t>();
  float* out = result.data_ptr<float>();
  const uint64_t key = mix_hash(static_cast<uint64_t>(seed_), static_cast<uint64_t>(context.layer));
  parallel_for(0, ids.numel(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const uint64_t token_key = mix_hash(key, static_cast<uint64_t>(id[t]));
      for (int64_t e = 0; e < num_experts_; ++e) {
        const uint64_t bits = mix_hash(token_key, static_cast<uint64_t>(e));
        out[t * num_experts_ + e] = static_cast<float>(static_cast<double>(bits >> 40) * 0x1p-24 * spread_);
      }
    }
  });
  return result.to(hidden.device());
}

RandomScorer::RandomScorer(const RouterSizes& sizes, double standard_deviation)
    : num_experts_(sizes.num_experts), standard_deviation_(standard_deviation) {}

Tensor RandomScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  require(context.random != nullptr, "layer {}: the scorer random needs a random stream", context.layer);
  return normal_parameter({hidden.size(0), num_experts_}, standard_deviation_, *context.random)
      .detach()
      .to(hidden.device());
}

Tensor UniformScorer::logits(const Tensor& hidden, const RoutingContext&) {
  return at::zeros({hidden.size(0), num_experts_}, hidden.options().requires_grad(false));
}

FixedLinearScorer::FixedLinearScorer(const RouterSizes& sizes, double gate_scale, RandomStream& random) {
  const double bound = gate_scale / std::sqrt(static_cast<double>(sizes.hidden_size));
  weight_ = uniform_tensor({sizes.num_experts, sizes.hidden_size}, bound, random);
  bias_ = uniform_tensor({sizes.num_experts}, bound, random);
}

Tensor FixedLinearScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, weight_, context);
  return at::addmm(bias_, hidden, weight_.t());
}

void FixedLinearScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  for (const auto& [name, tensor] : {std::pair(".weight", weight_), std::pair(".bias", bias_)})
    parameters.push_back(
        {.name = prefix + name, .tensor = tensor, .weight_decay = false, .trainable = false});
}

}  // namespace gatewright

#include "gatewright/routing/scorers/mixture.h"

#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/routing/balance/switch.h"

namespace gatewright {
namespace {

/// The `count` largest of each row, ties to the lower index (the sort is stable): bool, the shape of
/// `values`.
Tensor largest(const Tensor& values, int64_t count) {
  const Tensor order = std::get<1>(at::sort(values.detach(), /*stable=*/true, -1, /*descending=*/true));
  return at::zeros(values.sizes(), values.options().dtype(at::kBool).requires_grad(false))
      .scatter(-1, order.narrow(-1, 0, count), true);
}

}  // namespace

Tensor main_log_weights(const Tensor& main_logits, int64_t top_m) {
  const int64_t routers = main_logits.size(-1);
  require(top_m >= 0 && top_m <= routers, "[mixture] top_m must be in [0, {}], got {}", routers, top_m);
  if (top_m == 0 || top_m == routers) return at::log_softmax(main_logits, -1);
  const Tensor left_out = largest(main_logits, top_m).logical_not();
  return at::log_softmax(main_logits.masked_fill(left_out, -std::numeric_limits<double>::infinity()), -1);
}

Tensor mixture_logits(const Tensor& sub_logits, const Tensor& log_main_weights, MixtureLevel level) {
  require(
      sub_logits.dim() == 3 && log_main_weights.dim() == 2 && sub_logits.size(1) == log_main_weights.size(1),
      "[mixture] sub-router logits [T, M, E] and main weights [T, M] were expected, got {} and {} axes",
      sub_logits.dim(), log_main_weights.dim());
  if (sub_logits.size(1) == 1) return sub_logits.select(1, 0);
  const Tensor weight = log_main_weights.unsqueeze(-1);
  if (level == MixtureLevel::kLogits) return (weight.exp() * sub_logits).sum(1);
  return at::logsumexp(weight + at::log_softmax(sub_logits, -1), 1);
}

Tensor main_router_loss(const Tensor& log_main_weights) {
  const Tensor kept = at::isneginf(log_main_weights.detach()).logical_not();
  const bool sparse = !kept.all().item<bool>();
  const Tensor chosen = sparse ? kept : largest(log_main_weights, 1);
  return switch_loss(chosen.to(log_main_weights.scalar_type()).mean(0), log_main_weights.exp().mean(0));
}

MixtureScorer::MixtureScorer(const RouterSizes& sizes, const MixtureOptions& options, RandomStream& random)
    : options_(options) {
  require(options.num_routers >= 1, "[mixture] num_routers must be at least 1, got {}", options.num_routers);
  if (options.top_m < 0 || options.top_m > options.num_routers)
    fail_usage("[mixture] top_m must be in [0, num_routers = {}], got {}", options.num_routers,
               options.top_m);
  sub_routers_ =
      normal_parameter({options.num_routers, sizes.num_experts, sizes.hidden_size}, options.init, random);
  main_router_ = normal_parameter({options.num_routers, sizes.hidden_size}, options.init, random);
}

Tensor MixtureScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, main_router_, context);
  const Tensor main = main_log_weights(hidden.mm(main_router_.t()), options_.top_m);
  const Tensor sub = hidden.mm(sub_routers_.flatten(0, 1).t())
                         .view({hidden.size(0), options_.num_routers, sub_routers_.size(1)});
  if (context.carried) context.carried->insert_or_assign(kMainLogWeights, main);
  return mixture_logits(sub, main, options_.level);
}

void MixtureScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back({.name = prefix + ".sub_routers", .tensor = sub_routers_});
  parameters.push_back({.name = prefix + ".main_router", .tensor = main_router_});
}

Tensor sub_router_usage(const Tensor& log_main_weights) { return log_main_weights.detach().exp().mean(0); }

double sub_router_agreement(const Tensor& sub_logits) {
  const int64_t routers = sub_logits.size(1);
  if (routers == 1) return 1;
  const Tensor best = sub_logits.detach().argmax(-1);  // [T, M]
  const double same = (best.unsqueeze(1) == best.unsqueeze(2)).to(at::kDouble).mean().item<double>() *
                      static_cast<double>(routers);
  return (same - 1) / static_cast<double>(routers - 1);
}

}  // namespace gatewright

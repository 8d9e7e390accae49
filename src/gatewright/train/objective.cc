#include "gatewright/train/objective.h"

#include <algorithm>

#include "gatewright/layers/consistency.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/layers/linear.h"

namespace gatewright {
namespace {

/// float32 logits [N, V] of the positions that have a target.
Tensor kept_logits(const Tensor& hidden, const Tensor& head, const Tensor& kept) {
  return linear_layer(hidden.index_select(0, kept), head).to(at::kFloat);
}

Tensor positions_with_target(const Tensor& targets) { return (targets >= 0).nonzero().squeeze(-1); }

class NextToken final : public Objective {
 public:
  NextToken(double smoothing, double z_weight) : smoothing_(smoothing), z_weight_(z_weight) {}
  ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                       const Tensor& targets) const override {
    if (smoothing_ == 0 && z_weight_ == 0) {
      const Tensor loss = linear_cross_entropy(hidden.at(0), head, targets);
      return {.loss = loss, .cross_entropy = loss.detach()};
    }
    const Tensor kept = positions_with_target(targets), mine = targets.index_select(0, kept);
    const Tensor logits = kept_logits(hidden.at(0), head, kept);
    const auto count = static_cast<double>(std::max<int64_t>(mine.numel(), 1));
    const Tensor smoothed = label_smoothed_cross_entropy(logits, mine, smoothing_);
    const Tensor z = logits.logsumexp(-1).square().sum();
    return {.loss = (smoothed + z_weight_ * z) / count,
            .cross_entropy = label_smoothed_cross_entropy(logits.detach(), mine, 0) / count};
  }

 private:
  double smoothing_, z_weight_;
};

/// THOR's loss: two passes whose predictions are pulled together.
class Consistency final : public Objective {
 public:
  Consistency(double alpha, double smoothing) : alpha_(alpha), smoothing_(smoothing) {}
  int64_t passes() const override { return 2; }
  ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                       const Tensor& targets) const override {
    const Tensor kept = positions_with_target(targets), mine = targets.index_select(0, kept);
    const Tensor first = kept_logits(hidden.at(0), head, kept),
                 second = kept_logits(hidden.at(1), head, kept);
    const auto count = static_cast<double>(std::max<int64_t>(mine.numel(), 1));
    const Tensor loss = consistency_loss(first, second, mine, alpha_, smoothing_) / count;
    const at::NoGradGuard no_grad;
    const Tensor plain = consistency_loss(first, second, mine, 0, 0) / (2 * count);
    return {.loss = loss, .cross_entropy = plain, .disagreement = symmetric_kl(first, second, mine) / count};
  }

 private:
  double alpha_, smoothing_;
};

}  // namespace

const Registry<ObjectiveFactory>& objectives() {
  static const Registry<ObjectiveFactory> registry(
      "objective",
      {{{.name = "next_token",
         .summary = "cross entropy of the next token",
         .source = "common practice; the z-loss: Chowdhery et al. 2022, PaLM, section 5",
         .formula = "mean over targets of -(1 - s) ln p(target) - s/(V - 1) sum over the others of ln p\n"
                    "+ z_loss ln(sum_v exp(logit_v))^2,  s = label_smoothing",
         .parameters = {{.name = "label_smoothing",
                         .help = "share of the target's probability that is spread over the vocabulary",
                         .default_value = 0.0,
                         .min = 0,
                         .max = 1,
                         .max_open = true},
                        {.name = "z_loss",
                         .help =
                             "weight of the squared logarithm of the softmax's denominator; OpenMoE: 0.001",
                         .default_value = 0.0,
                         .min = 0,
                         .max = 1e6}}},
        [](const Values& v) -> std::unique_ptr<Objective> {
          return std::make_unique<NextToken>(v.number("label_smoothing"), v.number("z_loss"));
        }},
       {{.name = "consistency",
         .summary = "two passes over each batch whose predictions are pulled together (THOR, R-Drop)",
         .source = "Zuo et al. 2022, Taming Sparsely Activated Transformer with Stochastic Experts",
         .formula = "CE(z1) + CE(z2) + alpha/2 sum_v (p_v - q_v)(ln p_v - ln q_v),  mean over targets",
         .parameters = {{.name = "alpha",
                         .help = "factor of the divergence between the two predictions",
                         .default_value = 5.0,
                         .min = 0,
                         .max = 1e6},
                        {.name = "label_smoothing",
                         .help = "share of the target's probability that is spread over the vocabulary",
                         .default_value = 0.1,
                         .min = 0,
                         .max = 1,
                         .max_open = true}}},
        [](const Values& v) -> std::unique_ptr<Objective> {
          return std::make_unique<Consistency>(v.number("alpha"), v.number("label_smoothing"));
        }}});
  return registry;
}

}  // namespace gatewright

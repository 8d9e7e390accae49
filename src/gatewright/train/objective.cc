#include "gatewright/train/objective.h"

#include <algorithm>

#include "gatewright/layers/consistency.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/layers/linear.h"

namespace gatewright {
namespace {

class NextToken final : public Objective {
 public:
  ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                       const Tensor& targets) const override {
    const Tensor loss = linear_cross_entropy(hidden.at(0), head, targets);
    return {.loss = loss, .cross_entropy = loss.detach()};
  }
};

/// THOR's loss: two passes whose predictions are pulled together.
class Consistency final : public Objective {
 public:
  Consistency(double alpha, double smoothing) : alpha_(alpha), smoothing_(smoothing) {}
  int64_t passes() const override { return 2; }
  ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                       const Tensor& targets) const override {
    const Tensor kept = (targets >= 0).nonzero().squeeze(-1), mine = targets.index_select(0, kept);
    const auto logits = [&](const Tensor& h) {
      return linear_layer(h.index_select(0, kept), head).to(at::kFloat);
    };
    const Tensor first = logits(hidden.at(0)), second = logits(hidden.at(1));
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
         .source = "common practice",
         .formula = "mean over targets of -ln p(target)",
         .parameters = {}},
        [](const Values&) -> std::unique_ptr<Objective> { return std::make_unique<NextToken>(); }},
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

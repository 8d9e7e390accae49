#include "gatewright/train/objective.h"

#include <fmt/format.h>

#include <algorithm>

#include "gatewright/layers/consistency.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/layers/linear.h"
#include "gatewright/train/ul2.h"

namespace gatewright {
namespace {

/// float32 logits [N, V] of the positions that have a target.
Tensor kept_logits(const Tensor& hidden, const Tensor& head, const Tensor& kept) {
  return linear_layer(hidden.index_select(0, kept), head).to(at::kFloat);
}

Tensor positions_with_target(const Tensor& targets) { return (targets >= 0).nonzero().squeeze(-1); }

class NextToken : public Objective {
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

/// Texts with something missing, for the first part of a training; then the plain texts.
class Ul2 final : public NextToken {
 public:
  Ul2(double share, int64_t sentinels, double smoothing, double z_weight)
      : NextToken(smoothing, z_weight), share_(share), sentinels_(sentinels) {}
  int64_t extra_tokens() const override { return sentinels_; }
  std::optional<Batch> rewritten(const Batch& batch, const ObjectiveContext& c) const override {
    const bool is_over = static_cast<double>(c.step) >= share_ * static_cast<double>(c.num_steps);
    if (c.num_steps > 0 && is_over) return std::nullopt;
    constexpr uint64_t kSeed = 0;  // the order of the texts follows the training's own
    RandomStream random(kSeed, fmt::format("ul2 step {} batch {}", c.step, c.micro_batch));
    return denoised(batch, ul2_denoisers(), static_cast<int32_t>(c.vocab_size - sentinels_), sentinels_,
                    random);
  }

 private:
  double share_;
  int64_t sentinels_;
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

std::vector<Parameter> next_token_parameters() {
  return {{.name = "label_smoothing",
           .help = "share of the target's probability that is spread over the vocabulary",
           .default_value = 0.0,
           .min = 0,
           .max = 1,
           .max_open = true},
          {.name = "z_loss",
           .help = "weight of the squared logarithm of the softmax's denominator; OpenMoE: 0.001",
           .default_value = 0.0,
           .min = 0,
           .max = 1e6}};
}

Registry<ObjectiveFactory>::Entry ul2() {
  constexpr double kMostSentinels = 1 << 16;
  std::vector<Parameter> parameters = next_token_parameters();
  parameters.insert(parameters.begin(),
                    {{.name = "ul2_share",
                      .help = "part of the training that has it, then next_token; OpenMoE-8B: 0.7",
                      .default_value = 1.0,
                      .min = 0,
                      .max = 1},
                     {.name = "sentinels",
                      .help = "tokens that stand for removed spans, added to the vocabulary",
                      .default_value = int64_t{100},
                      .min = 2,
                      .max = kMostSentinels}});
  return {
      {.name = "ul2",
       .summary = "a mixture of denoisers on a causal model, then the next token; OpenMoE",
       .source = "Tay et al. 2022, UL2, section 3.1; Xue et al. 2024, OpenMoE, section 2.3",
       .formula = "each document: half the time its second half is asked for; else spans are replaced by\n"
                  "sentinels and asked for after the text, mean length and share one of (3, 0.15),\n"
                  "(8, 0.15), (3, 0.5), (8, 0.5), (64, 0.5)",
       .parameters = std::move(parameters)},
      [](const Values& v) -> std::unique_ptr<Objective> {
        return std::make_unique<Ul2>(v.number("ul2_share"), v.integer("sentinels"),
                                     v.number("label_smoothing"), v.number("z_loss"));
      }};
}

}  // namespace

const Registry<ObjectiveFactory>& objectives() {
  static const Registry<ObjectiveFactory> registry(
      "objective",
      {{{.name = "next_token",
         .summary = "cross entropy of the next token",
         .source = "common practice; the z-loss: Chowdhery et al. 2022, PaLM, section 5",
         .formula = "mean over targets of -(1 - s) ln p(target) - s/(V - 1) sum over the others of ln p\n"
                    "+ z_loss ln(sum_v exp(logit_v))^2,  s = label_smoothing",
         .parameters = next_token_parameters()},
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
        }},
       ul2()});
  return registry;
}

}  // namespace gatewright

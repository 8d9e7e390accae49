// Mixture of Routers (2025): adapters on a frozen small model, chosen by one router or by three that decide
// together, and what is lost when one router goes wrong.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "experiments/list.h"
#include "experiments/markov_domains.h"
#include "experiments/real_text.h"

namespace gatewright::experiments {
namespace {

constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 2,
                         .width = 96,
                         .length = 32,
                         .rows = 16,
                         .steps = 300,
                         .fresh_rows = 256};
constexpr int64_t kFullWidth = 384;
constexpr double kBaseRate = 3e-3, kLearningRate = 5e-3;

struct Arm {
  const char* name;
  int64_t num_experts, rank;
  const char* scorer;
  int64_t num_routers;
};
constexpr Arm kArms[] = {
    {"LoRA", 1, 8, "scorer = \"uniform\"\ntop_k = 1\n", 0},
    {"one router", 8, 4, "scorer = \"linear\"\n", 1},
    {"MoR", 8, 4, "scorer = \"mixture\"\nnum_routers = 3\ncombination = \"probs\"\n", 3},
    {"MoR of logits", 8, 4, "scorer = \"mixture\"\nnum_routers = 3\ncombination = \"logits\"\n", 3}};

constexpr const char* kRouting =
    "init = 0.1\ntop_k = 2\nweights = \"renormalised\"\n"
    "[balance.switch]\nweight = 0.01\nfraction = \"choices\"\nover_layers = \"mean\"\n";

/// The map that the feed-forward's activation reads has the adapters.
std::string recipe_of(const Arm& arm, const Scale& scale) {
  return fmt::format(
      "{}[experts]\nbank = \"lora\"\nwidth = {}\nnum_experts = {}\nrank = {}\nlora_alpha = {:.1f}\n"
      "dropout = 0.0\nadapted = [\"gate\"]\n[routing]\n{}{}",
      scale.model_recipe(), scale.width, arm.num_experts, arm.rank, 2.0 * static_cast<double>(arm.rank),
      arm.scorer, arm.num_routers > 0 ? kRouting : "");
}

/// Four domains that the base is trained on, or four others that the adapters then learn.
Domains four_domains(const RealText* text, bool of_base, RandomStream& random) {
  if (text) return text->domains(std::span(RealText::kDomains).subspan(of_base ? 0 : 4, 4));
  return generated_domains(make_markov_domains(random), kDomainVocabulary);
}

Decoder pretrained_base(uint64_t seed, const Scale& scale, const RealText* real,
                        const std::function<void()>& step_done) {
  RandomStream tables(seed, "mixture-of-routers base domains"), text(seed, "mixture-of-routers base text");
  const Domains domains = four_domains(real, true, tables);
  SmallModel base(fmt::format("{}dense_width = {}\n", scale.model_recipe(), scale.width), domains.vocabulary,
                  seed, kBaseRate, scale.steps);
  train(base, domains.training, scale, text, step_done);
  return std::move(base.decoder());
}

/// All that the base has, frozen.
void take_over_base(const Decoder& base, const Decoder& adapted) {
  copy_parameters(base, adapted);
  const ParameterList own = base.parameters();
  for (const NamedTensor& p : adapted.parameters()) {
    if (std::ranges::find(own, p.name, &NamedTensor::name) != own.end()) p.tensor.set_requires_grad(false);
  }
}

int64_t trained_parameters(const Decoder& model) {
  int64_t count = 0;
  for (const NamedTensor& p : model.parameters())
    count += p.trainable && p.tensor.requires_grad() ? p.tensor.numel() : 0;
  return count;
}

/// The weights [E, H] of the model's router of this number, one a layer.
std::vector<Tensor> router_weights(const Decoder& model, int64_t router) {
  std::vector<Tensor> weights;
  for (const NamedTensor& p : model.parameters()) {
    if (p.name.ends_with(".sub_routers")) weights.push_back(p.tensor.detach().select(0, router));
    if (p.name.ends_with(".mlp.gate.weight")) weights.push_back(p.tensor.detach());
  }
  return weights;
}

/// How much the loss rises when one router has random weights of its own norm instead, in every layer: the
/// mean over routers.
double rise_with_a_wrong_router(SmallModel& model, int64_t num_routers, const Batch& text, uint64_t seed) {
  const double right = model.evaluate(text).cross_entropy;
  RandomStream random(seed, "mixture-of-routers wrong routers");
  double rise = 0;
  for (int64_t m = 0; m < num_routers; ++m) {
    const std::vector<Tensor> weights = router_weights(model.decoder(), m);
    std::vector<Tensor> before;
    for (const Tensor& w : weights) {
      before.push_back(w.clone());
      const Tensor drawn = normal_parameter(w.sizes(), 1, random).detach();
      w.copy_(drawn * (w.norm() / drawn.norm()));
    }
    rise += (model.evaluate(text).cross_entropy - right) / static_cast<double>(num_routers);
    for (size_t l = 0; l < weights.size(); ++l) weights[l].copy_(before[l]);
  }
  return rise;
}

void measure(const Arm& arm, SmallModel& model, const Batch& fresh, uint64_t seed, Recorder& recorder) {
  const auto result = model.evaluate(fresh);
  recorder.add(arm.name, "validation loss", result.cross_entropy);
  recorder.add(arm.name, "trained parameters", static_cast<double>(trained_parameters(model.decoder())));
  if (arm.num_routers == 0) return;
  std::vector<double> imbalance;
  for (const RoutingRecord& r : result.routing)
    imbalance.push_back(load_imbalance(expert_counts(r.assignment)));
  recorder.add(arm.name, "load imbalance", mean_of(imbalance));
  recorder.add(arm.name, "rise with a wrong router",
               rise_with_a_wrong_router(model, arm.num_routers, fresh, seed));
}

void run(uint64_t seed, Recorder& recorder) {
  const Scale scale = recorder.scale(kFast, kFullWidth);
  int64_t done = 0;
  const auto step_done = [&] {
    recorder.progress(static_cast<double>(++done) /
                      static_cast<double>((std::ssize(kArms) + 1) * scale.steps));
  };
  const Decoder base = pretrained_base(seed, scale, recorder.real_text(), step_done);
  RandomStream tables(seed, "mixture-of-routers domains"), unseen(seed, "mixture-of-routers fresh text");
  const Domains domains = four_domains(recorder.real_text(), false, tables);
  const Batch fresh = text_of(domains.fresh, scale.fresh_rows, scale.length, unseen);
  for (const Arm& arm : kArms) {
    RandomStream text(seed, "mixture-of-routers text");
    SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed,
                     recorder.learning_rate(arm.name, kLearningRate), scale.steps);
    take_over_base(base, model.decoder());
    train(model, domains.training, scale, text, step_done);
    measure(arm, model, fresh, seed, recorder);
  }
}

std::vector<Finding> judge(const Results& r) {
  const auto loss = [&](const char* arm) { return r.mean(arm, "validation loss"); };
  const double single = loss("LoRA") - loss("one router"), joint = loss("LoRA") - loss("MoR"),
               worse = loss("MoR") - loss("one router");
  double highest_share = 0;
  for (size_t s = 0; s < static_cast<size_t>(r.seeds()); ++s)
    highest_share = std::max(highest_share, r.at("MoR", "rise with a wrong router").values[s] /
                                                r.at("one router", "rise with a wrong router").values[s]);
  return {{"LoRA experts with one router and with three both beat a single LoRA by at least 0.1 nats",
           fmt::format("by {:.3f} and {:.3f}", single, joint), single >= 0.1 && joint >= 0.1,
           single > 0 && joint > 0},
          {"three routers are not worse than one by more than 0.01 nats on average",
           fmt::format("{:+.4f}", worse), worse <= 0.01, worse <= 0.01},
          {"with one router replaced by random weights the loss rises at most half as much as with the only "
           "one replaced, in every seed",
           fmt::format("{:.2f} times as much in the worst seed", highest_share), highest_share <= 0.5,
           highest_share < 1}};
}

}  // namespace

Experiment mixture_of_routers() {
  return {
      .slug = "mixture-of-routers",
      .title = "Mixture of Routers",
      .source = "2025, arXiv 2503.23362",
      .claim =
          "several routers that decide together choose LoRA experts as well as one, and bear a wrong one",
      .published = "1 % better on average than LoRA and LoRA experts with one router",
      .criterion =
          "LoRA experts beat one LoRA by 0.1 nats, three routers are not worse than one by 0.01, and a wrong "
          "one of three costs at most half of what a wrong single router does",
      .arms = {"LoRA", "one router", "MoR", "MoR of logits"},
      .budget_seconds = 30,
      .full_seconds = 450,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

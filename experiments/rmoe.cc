// RMoE (Qiu et al. 2024): two routed linear layers whose second router lacks what the first one saw, and a
// small language model, on which nothing is asserted.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

#include "experiments/clusters.h"
#include "experiments/list.h"
#include "experiments/real_text.h"
#include "experiments/small_model.h"
#include "gatewright/evaluate/router_diagnostics.h"
#include "gatewright/experts/lora.h"
#include "gatewright/routing/shared_modules.h"

namespace gatewright::experiments {
namespace {

constexpr double kLearningRate = 1e-2;

struct Arm {
  const char* name;
  const char* state;  // of the scorer recurrent; null: a linear router
};
constexpr Arm kArms[] = {
    {"linear", nullptr}, {"RMoE", "passed"}, {"NP", "not_passing"}, {"detach", "detach"}};
constexpr int64_t kStateSize = 16;

// ---- Two routed linear layers ----

constexpr int64_t kGroups = 4, kWidth = 8, kExperts = 2, kBatch = 128, kSteps = 600, kLast = 50;
constexpr int64_t kSoftSteps = kSteps * 7 / 10;
constexpr double kInit = 0.15;

/// Vectors v [n, 8] of groups g in 0 .. 3 and their target v T1[g / 2] T2[g mod 2].
class GroupedVectors {
 public:
  explicit GroupedVectors(RandomStream& random)
      : first_(normal_tensor({2, kWidth, kWidth}, random) / std::sqrt(kWidth)),
        second_(normal_tensor({2, kWidth, kWidth}, random) / std::sqrt(kWidth)) {}

  struct Draw {
    Tensor marked;  // [n, 4 + 8], the group as twice a one-hot vector, then v
    Tensor v, target;
  };
  Draw draw(RandomStream& random) const {
    const Tensor group = draw_indices(kGroups, kBatch, random), v = normal_tensor({kBatch, kWidth}, random);
    const Tensor middle = v.unsqueeze(1).bmm(first_.index_select(0, at::floor_divide(group, 2)));
    return {.marked = at::cat({at::one_hot(group, kGroups).to(at::kFloat) * 2, v}, 1),
            .v = v,
            .target = middle.bmm(second_.index_select(0, group.remainder(2))).squeeze(1)};
  }

 private:
  Tensor first_, second_;  // [2, 8, 8]
};

/// Soft mixtures of both experts in the first 420 steps, then the better one: with this number of steps the
/// schedule of k rounds to 2 up to step 419.
constexpr int64_t kScheduleSteps = 2 * kSoftSteps - 1;

RouterSpec router_of(const Arm& arm) {
  const Piece scorer =
      arm.state
          ? make_piece(scorers(), "recurrent",
                       {{"recurrent_size", kStateSize}, {"state", std::string(arm.state)}, {"init", kInit}})
          : make_piece(scorers(), "linear", {{"init", kInit}});
  return {.scorer = scorer,
          .selector = make_piece(choice::selectors(), "scheduled_top_k",
                                 {{"k_schedule", std::string("linear_decrease")},
                                  {"k_min", int64_t{1}},
                                  {"k_max", kExperts},
                                  {"k_inference", int64_t{1}}})};
}

/// The first router sees the groups; experts and the second router see vectors only.
class TwoLayers {
 public:
  TwoLayers(const Arm& arm, uint64_t seed) : shared_(seed) {
    for (const auto& [layer, seen] : {std::pair("1", kGroups + kWidth), std::pair("2", kWidth)}) {
      RandomStream random(seed, fmt::format("rmoe layer {}", layer));
      routers_.emplace_back(router_of(arm),
                            RouterSizes{.hidden_size = seen, .num_experts = kExperts, .network = &shared_},
                            random);
      // B A x with A the identity: experts that are 8 x 8 matrices.
      experts_.push_back({.a = at::eye(kWidth).expand({kExperts, kWidth, kWidth}),
                          .b = normal_parameter({kExperts, kWidth, kWidth}, kInit, random)});
    }
  }

  Tensor forward(const GroupedVectors::Draw& draw, int64_t step) {
    CarriedState carried;
    Tensor x = draw.v;
    for (size_t l = 0; l < routers_.size(); ++l) {
      Assignment chosen = routers_[l]
                              .route(l == 0 ? draw.marked : x, {.layer = static_cast<int64_t>(l),
                                                                .training = true,
                                                                .step = step,
                                                                .num_steps = kScheduleSteps,
                                                                .num_routed_layers = std::ssize(routers_),
                                                                .carried = &carried})
                              .assignment;
      if (step >= kSoftSteps)  // weight 1 with the gradient of the probability
        chosen.weight = chosen.weight + (1 - chosen.weight).detach();
      x = lora_delta(x, chosen, experts_[l], 1);
    }
    return x;
  }

  ParameterList parameters() const {
    ParameterList list;
    for (size_t l = 0; l < routers_.size(); ++l) {
      routers_[l].collect(list, fmt::format("layers.{}.gate", l));
      list.push_back({.name = fmt::format("layers.{}.experts", l), .tensor = experts_[l].b});
    }
    shared_.collect(list, "");
    return list;
  }

 private:
  SharedModules shared_;
  std::vector<Router> routers_;
  std::vector<LoraWeights> experts_;
};

/// Error over the variance of the target, mean of the last steps.
double relative_error(const Arm& arm, uint64_t seed, double learning_rate) {
  RandomStream matrices(seed, "rmoe matrices"), vectors(seed, "rmoe vectors");
  const GroupedVectors data(matrices);
  TwoLayers model(arm, seed);
  AdamW optimizer(model.parameters(), kAdam);
  double mean = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const GroupedVectors::Draw draw = data.draw(vectors);
    const Tensor error = at::mse_loss(model.forward(draw, step), draw.target);
    error.backward();
    optimizer.step(learning_rate);
    optimizer.zero_grad();
    if (step >= kSteps - kLast) mean += (error / draw.target.var(/*unbiased=*/false)).item<double>() / kLast;
  }
  return mean;
}

// ---- A language model ----

constexpr int64_t kVocabulary = 64, kDomains = 8, kSuccessors = 8;
constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 3,
                         .width = 16,
                         .length = 32,
                         .rows = 16,
                         .steps = 500,
                         .fresh_rows = 128};
/// Not tuned: nothing is asserted of the language model.
constexpr double kModelLearningRate = 3e-3;

std::string recipe_of(const Arm& arm, const Scale& scale) {
  const std::string scorer =
      arm.state ? fmt::format("scorer = \"recurrent\"\nrecurrent_size = {}\nstate = \"{}\"\n", kStateSize,
                              arm.state)
                : "scorer = \"linear\"\n";
  return fmt::format(
      "{}[experts]\nnum_experts = 8\nwidth = {}\n[routing]\n{}init = 0.1\ntop_k = 2\nweights = "
      "\"renormalised\"\n"
      "[balance.pooled_switch]\nweight = 0.01\n",
      scale.model_recipe(), scale.width, scorer);
}

Domains language_domains(const RealText* text, RandomStream& random) {
  if (text) return text->domains(RealText::kDomains);
  std::vector<int32_t> tokens(kVocabulary);
  std::iota(tokens.begin(), tokens.end(), 0);
  std::vector<SuccessorLanguage> domains;
  for (int64_t d = 0; d < kDomains; ++d) domains.emplace_back(tokens, kSuccessors, random);
  return generated_domains(std::move(domains), kVocabulary);
}

/// Every sequence of a domain that is drawn.
Batch mixed_text(const Languages& domains, int64_t rows, int64_t length, RandomStream& random) {
  std::vector<std::vector<int32_t>> text;
  for (int64_t r = 0; r < rows; ++r)
    text.push_back(domains[random.below(domains.size())]->sequence(length, random));
  return batch_of(text);
}

/// Norm of the gradient that reaches the first layer's projector through the logits of the last one when all
/// hidden states are given.
double gradient_through_state(const DecoderSpec& spec, uint64_t seed) {
  constexpr int64_t kTokens = 64;
  RandomStream random(seed, "rmoe gradient");
  SharedModules shared(seed);
  CarriedState carried;
  ParameterList first;
  Tensor logits;
  for (int64_t l = 0; l < spec.num_layers(); ++l) {
    const FeedForwardSpec& layer = spec.layers[static_cast<size_t>(l)];
    Router router(layer.router,
                  {.hidden_size = spec.hidden_size, .num_experts = layer.num_experts, .network = &shared},
                  random);
    if (l == 0) router.collect(first, "gate");
    logits = router
                 .route(normal_tensor({kTokens, spec.hidden_size}, random),
                        {.layer = l, .num_routed_layers = spec.num_layers(), .carried = &carried})
                 .scores.logits;
  }
  logits.square().sum().backward();
  const auto projector = std::ranges::find(first, "gate.weight1", &NamedTensor::name);
  const Tensor gradient = projector->tensor.grad();
  return gradient.defined() ? gradient.norm().item<double>() : 0;
}

void measure_language_model(const Arm& arm, uint64_t seed, const Scale& scale,
                            const std::function<void()>& stepped, Recorder& recorder) {
  RandomStream tables(seed, "rmoe domains"), text(seed, "rmoe text"), fresh(seed, "rmoe fresh text");
  const Domains domains = language_domains(recorder.real_text(), tables);
  SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed, kModelLearningRate);
  for (int64_t step = 0; step < scale.steps; ++step) {
    model.step({mixed_text(domains.training, scale.rows, scale.length, text)});
    stepped();
  }
  const SmallModel::Evaluation result =
      model.evaluate(mixed_text(domains.fresh, scale.fresh_rows, scale.length, fresh));
  std::vector<double> information, entropy;
  for (size_t l = 0; l < result.routing.size(); ++l) {
    entropy.push_back(gate_entropy(result.routing[l]));
    if (l > 0) information.push_back(layer_information(result.routing[l - 1], result.routing[l]));
  }
  recorder.add(arm.name, "language model: validation loss", result.cross_entropy);
  recorder.add(arm.name, "language model: information of neighbouring layers, nats", mean_of(information));
  recorder.add(arm.name, "language model: gate entropy, nats", mean_of(entropy));
  if (arm.state)
    recorder.add(arm.name, "gradient through the state",
                 gradient_through_state(model.decoder().spec(), seed));
}

void run(uint64_t seed, Recorder& recorder) {
  const Scale scale = recorder.scale(kFast, 64);
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(static_cast<double>(++done) / static_cast<double>(std::ssize(kArms) * scale.steps));
  };
  for (const Arm& arm : kArms)
    recorder.add(arm.name, "relative error",
                 relative_error(arm, seed, recorder.learning_rate(arm.name, kLearningRate)));
  for (const Arm& arm : kArms) measure_language_model(arm, seed, scale, stepped, recorder);
}

std::vector<Finding> judge(const Results& r) {
  const auto over_linear = [&](const char* arm) {
    return ratios(r.at(arm, "relative error"), r.at("linear", "relative error"));
  };
  const auto gradients = [&](const char* arm) { return r.at(arm, "gradient through the state").values; };
  const std::vector<double> recurrent = over_linear("RMoE"), not_passing = over_linear("NP");
  const double worst = std::ranges::max(recurrent), mean = mean_of(recurrent);
  const double np_least = std::ranges::min(not_passing), np_most = std::ranges::max(not_passing);
  const double passed = std::ranges::min(gradients("RMoE"));
  const double cut = std::max(std::ranges::max(gradients("NP")), std::ranges::max(gradients("detach")));
  return {
      {"error of RMoE at most 0.6 times the linear router's in every seed, 0.35 times on average",
       fmt::format("{:.2f} times in the worst seed, {:.2f} on average", worst, mean),
       worst <= 0.6 && mean <= 0.35, mean < 1},
      {"without passing the state (NP) between 0.9 and 1.1 times the linear router's error, in every seed",
       fmt::format("{:.2f} to {:.2f}", np_least, np_most), np_least >= 0.9 && np_most <= 1.1,
       mean < mean_of(not_passing)},
      {"the first layer's projector has a gradient through the last layer's logits with RMoE, and exactly "
       "none with NP and detach",
       fmt::format("at least {:.2g}, at most {:.2g}", passed, cut), passed > 0 && cut == 0, passed > cut}};
}

}  // namespace

Experiment rmoe() {
  return {.slug = "rmoe",
          .title = "RMoE (a recurrent router)",
          .source = "Qiu et al. 2024, arXiv 2408.06793",
          .claim = "a state carried from router to router lets later layers use what earlier ones saw",
          .published = "Enwik8: 1.141 bits a character, 1.150 without passing the state, 1.159 detached",
          .criterion =
              "at most 0.6 times the linear router's error in every seed and 0.35 on average where only "
              "the first router sees a token's group; no gain without passing the state",
          .arms = {"linear", "RMoE", "NP", "detach"},
          .budget_seconds = 25,
          .full_seconds = 300,
          .tuned_by = "relative error",
          .learning_rate = kLearningRate,
          .run = run,
          .judge = judge};
}

}  // namespace gatewright::experiments

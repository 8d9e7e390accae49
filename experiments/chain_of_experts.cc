// Chain-of-Experts (2025): a function of two steps, of which the second depends on what the first made,
// learned by two rounds of experts and by one round of as many; with the budget full a language model too.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "experiments/list.h"
#include "experiments/real_text.h"
#include "experiments/small_model.h"
#include "gatewright/experts/expert_bank.h"
#include "gatewright/experts/lora.h"
#include "gatewright/routing/rounds.h"
#include "gatewright/routing/router.h"
#include "gatewright/train/adamw.h"
#include "gatewright/train/schedule.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kWidth = 8, kExperts = 8, kBatch = 256, kSteps = 2500, kLast = 100;
constexpr double kLearningRate = 5e-3, kLogitFactor = 3;

struct Arm {
  const char* name;
  int64_t top_k;
  RoundsSpec rounds = {};
};
constexpr RoundResidual kInner = RoundResidual::kInnerStream, kOuter = RoundResidual::kOuter;
constexpr Arm kArms[] = {{"two rounds of 2", 2, {.rounds = 2, .residual = kInner}},
                         {"one round of 4", 4},
                         {"one round of 2", 2},
                         {"one round of 6", 6},
                         {"one gate", 2, {.rounds = 2, .residual = kInner, .independent_gating = false}},
                         {"outer residual", 2, {.rounds = 2, .residual = kOuter}}};

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

// ---- One layer ----

/// Twice in a row one of four linear maps is added, which one the input of the step decides.
class Teacher {
 public:
  explicit Teacher(RandomStream& random) {
    constexpr int64_t kMaps = 4;
    for (Step& step : steps_) {
      step.chooser = normal_parameter({kMaps, kWidth}, 1, random).detach();
      step.maps = normal_parameter({kMaps, kWidth, kWidth}, 1.2 / std::sqrt(kWidth), random).detach();
    }
  }
  /// [T, kWidth] -> [T, kWidth]
  Tensor operator()(const Tensor& x) const {
    Tensor y = x;
    for (const Step& step : steps_) {
      const Tensor chosen = y.mm(step.chooser.t()).argmax(-1);
      y = y + step.maps.index_select(0, chosen).bmm(y.unsqueeze(-1)).squeeze(-1);
    }
    return y;
  }

 private:
  struct Step {
    Tensor chooser, maps;
  };
  Step steps_[2];
};

/// One matrix each: adapters of full rank whose first map is the identity.
class LinearExperts final : public ExpertBank {
 public:
  explicit LinearExperts(RandomStream& random)
      : weights_{.a = at::eye(kWidth).repeat({kExperts, 1, 1}),
                 .b = normal_parameter({kExperts, kWidth, kWidth}, 0.5 / std::sqrt(kWidth), random)} {}
  using ExpertBank::forward;
  Tensor forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext&) override {
    return lora_delta(hidden, assignment, weights_, 1);
  }
  void collect(ParameterList& parameters, const std::string& prefix) const override {
    parameters.push_back({.name = prefix + ".experts.{}.weight", .tensor = weights_.b});
  }
  int64_t num_experts() const override { return kExperts; }
  double flops_per_pair() const override { return 2.0 * kWidth * kWidth; }
  int64_t parameters_per_expert() const override { return kWidth * kWidth; }

 private:
  LoraWeights weights_;
};

RouterSpec router_spec(int64_t top_k) {
  return {.scorer = make_piece(scorers(), "linear", {{"init_rule", std::string("kaiming_uniform")}}),
          .selector = make_piece(choice::selectors(), "top_k", {{"top_k", top_k}}),
          .balance = {make_piece(balance_terms(), "switch",
                                 {{"weight", 0.003}, {"fraction", std::string("choices")}})}};
}

class Student {
 public:
  Student(const Arm& arm, RandomStream& random) : rounds_(arm.rounds), experts_(random) {
    for (int64_t g = 0; g < rounds_.num_gates(); ++g)
      routers_.emplace_back(router_spec(arm.top_k),
                            RouterSizes{.hidden_size = kWidth, .num_experts = kExperts}, random);
  }
  ParameterList parameters() const {
    ParameterList list;
    experts_.collect(list, "student");
    for (size_t g = 0; g < routers_.size(); ++g) routers_[g].collect(list, fmt::format("gate.{}", g));
    return list;
  }
  /// What it makes of x, and the balance loss of its rounds.
  std::pair<Tensor, Tensor> operator()(const Tensor& x) {
    Tensor balance = at::zeros({});
    const RoundsOutput output = run_rounds(x, x, rounds_, [&](int64_t round, const Tensor& state) {
      const RoutingRecord record =
          routers_[rounds_.independent_gating ? static_cast<size_t>(round) : 0].route(
              state * kLogitFactor, {.layer = round, .training = true});
      balance = balance + record.loss;
      return experts_.forward(state, record.assignment);
    });
    return {output.stream + output.delta, balance};
  }
  void end_step() {
    for (Router& router : routers_) router.end_step();
  }

 private:
  RoundsSpec rounds_;
  LinearExperts experts_;
  std::vector<Router> routers_;
};

Schedule falling_at_last() {
  const auto& wsd = schedules().at("wsd");
  return wsd.make(Values(wsd.spec.parameters, {{"final_factor", 0.0}, {"decay_share", 0.4}}, "[wsd]"));
}

/// Mean over the last steps of the squared error over that of the identity.
double error_of(const Arm& arm, uint64_t seed, double learning_rate, const std::function<void()>& step_done) {
  RandomStream maps(seed, "chain-of-experts teacher"), text(seed, "chain-of-experts inputs"),
      init(seed, "chain-of-experts student");
  const Teacher teacher(maps);
  Student student(arm, init);
  AdamW optimizer(student.parameters(), {.beta2 = 0.999, .weight_decay = 0});
  const Schedule schedule = falling_at_last();
  double last = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const Tensor x = normal_parameter({kBatch, kWidth}, 1, text).detach(), y = teacher(x);
    const auto [made, balance] = student(x);
    const Tensor error = (made - y).square().mean();
    (error + balance).backward();
    optimizer.step(learning_rate * schedule(step, kSteps));
    optimizer.zero_grad();
    student.end_step();
    if (step >= kSteps - kLast) last += error.item<double>() / (y - x).square().mean().item<double>() / kLast;
    step_done();
  }
  return last;
}

// ---- A language model ----

/// Not tuned: the same for every arm.
constexpr double kModelLearningRate = 3e-3;
constexpr const char* kModelLoss = "language model: validation loss";

std::string recipe_of(const Arm& arm, const Scale& scale) {
  return fmt::format(
      "{}[experts]\nnum_experts = 16\nwidth = {}\ninit = {:.4g}\n"
      "[routing]\ntop_k = {}\ninit_rule = \"kaiming_uniform\"\n"
      "rounds = {}\nresidual = \"{}\"\nindependent_gating = {}\n"
      "[balance.switch]\nweight = 0.001\nscope = \"sequence\"\nfraction = \"choices\"\n",
      scale.model_recipe(), scale.width, scale.init(), arm.top_k, arm.rounds.rounds,
      round_residual_names()[static_cast<size_t>(arm.rounds.residual)], arm.rounds.independent_gating);
}

void run_language_model(uint64_t seed, const FullBudget& full, Recorder& recorder) {
  const Scale scale = full.scale_of(64);
  const Domains domains = full.text.domains(std::array<std::string_view, 1>{"maths"});
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(static_cast<double>(++done) / static_cast<double>(std::ssize(kArms) * scale.steps));
  };
  for (const Arm& arm : kArms) {
    RandomStream text(seed, "chain-of-experts text"), fresh(seed, "chain-of-experts fresh text");
    SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed, kModelLearningRate);
    train(model, domains.training, scale, text, stepped);
    const Batch unseen = text_of(domains.fresh, scale.fresh_rows, scale.length, fresh);
    recorder.add(arm.name, kModelLoss, model.evaluate(unseen).cross_entropy);
  }
}

void run(uint64_t seed, Recorder& recorder) {
  if (const FullBudget* full = recorder.full()) run_language_model(seed, *full, recorder);
  int64_t done = 0;
  const auto stepped = [&] {
    recorder.progress(recorder.full() ? 1 : static_cast<double>(++done) / (std::size(kArms) * kSteps));
  };
  for (const Arm& arm : kArms)
    recorder.add(arm.name, "relative error",
                 error_of(arm, seed, recorder.learning_rate(arm.name, kLearningRate), stepped));
}

/// The largest error of one arm over that of another in any seed.
double largest_ratio(const Results& r, const char* arm, const char* other) {
  double largest = 0;
  for (size_t s = 0; s < static_cast<size_t>(r.seeds()); ++s)
    largest =
        std::max(largest, r.at(arm, "relative error").values[s] / r.at(other, "relative error").values[s]);
  return largest;
}

Finding helps_a_language_model(const Results& r) {
  const double gap = r.mean("two rounds of 2", kModelLoss) - r.mean("one round of 4", kModelLoss);
  return {
      .condition =
          "in a language model on sums in words two rounds of 2 are at least 0.02 nats below one round of 4 "
          "on average",
      .measured = fmt::format("{:+.4f}", gap),
      .met = gap <= -0.02,
      .direction = gap < 0};
}

std::vector<Finding> judge(const Results& r) {
  const char* chain = "two rounds of 2";
  const double equal = largest_ratio(r, chain, "one round of 4"),
               more = largest_ratio(r, chain, "one round of 6");
  const double gate = 1 / largest_ratio(r, chain, "one gate"),
               gate_against_one = 1 / largest_ratio(r, "one round of 4", "one gate"),
               outer = 1 / largest_ratio(r, chain, "outer residual");
  std::vector<Finding> findings = {
      {"at equal compute two rounds of 2 make at most 0.6 times the error of one round of 4, in every seed",
       fmt::format("{:.2f} times in the worst seed", equal), equal <= 0.6, equal < 1},
      {"two rounds of 2 make less error than one round of 6, in every seed",
       fmt::format("{:.2f} times in the worst seed", more), more < 1, more < 1},
      {"with one gate for both rounds the error is at least twice as large, and no smaller than with one "
       "round of 4, in every seed",
       fmt::format("{:.1f} times, and {:.2f} times that of one round, in the worst seed", gate,
                   gate_against_one),
       gate >= 2 && gate_against_one >= 1, gate > 1},
      {"with the outer residual the error is at least 1.5 times as large, in every seed",
       fmt::format("{:.1f} times in the worst seed", outer), outer >= 1.5, outer > 1}};
  if (r.has(chain, kModelLoss)) findings.push_back(helps_a_language_model(r));
  return findings;
}

}  // namespace

Experiment chain_of_experts() {
  return {.slug = "chain-of-experts",
          .title = "Chain-of-Experts",
          .source = "2025, arXiv 2506.18945",
          .claim =
              "experts that work in rounds, each routed by what the one before made, do more than as many at "
              "once",
          .published =
              "validation loss 1.12 with two rounds of 4 experts, 1.20 with one round of 8, on MetaMathQA",
          .criterion =
              "on a function of two dependent steps two rounds of 2 experts make at most 0.6 times the error "
              "of one "
              "of 4 and less than one of 6, and need gates of their own and the inner residual",
          .arms = arm_names(),
          .budget_seconds = 25,
          .full_seconds = 500,
          .tuned_by = "relative error",
          .learning_rate = kLearningRate,
          .run = run,
          .judge = judge};
}

}  // namespace gatewright::experiments

// THOR (Zuo et al. 2022): a small training set, experts by lot, and two passes that should agree.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "experiments/clusters.h"
#include "experiments/list.h"
#include "gatewright/layers/consistency.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kWidth = 16, kClasses = 8, kTraining = 300, kValidation = 4000;
constexpr int64_t kBatch = 64, kSteps = 600, kCheckEvery = 50;
constexpr double kLearningRate = 3e-3;

struct Arm {
  const char* name;
  int64_t experts;
  bool learned;  // a top-1 gate, or by lot
  int64_t passes;
  double alpha;
};
constexpr Arm kArms[] = {{"dense", 1, false, 1, 0},
                         {"Switch", 4, true, 1, 0},
                         {"random", 4, false, 2, 0},
                         {"THOR, alpha 1", 4, false, 2, 1},
                         {"THOR, alpha 5", 4, false, 2, 5}};
constexpr const char* kThor = "THOR, alpha 5";

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

/// inference: what the draws are for outside training (see the selector stochastic).
ExpertClassifier::Spec spec_of(const Arm& arm, const std::string& inference) {
  ExpertClassifier::Spec spec = {.hidden_size = kWidth,
                                 .num_layers = 2,
                                 .num_experts = arm.experts,
                                 .width = 32,
                                 .num_classes = kClasses};
  if (arm.learned) {
    spec.router.scorer = make_piece(scorers(), "linear", {{"init", ExpertClassifier::kInit}});
    spec.router.selector = make_piece(choice::selectors(), "top_k", {{"top_k", int64_t{1}}});
    spec.router.balance = {make_piece(balance_terms(), "switch", {{"weight", 0.01}})};
  } else {
    spec.router.scorer = make_piece(scorers(), "uniform");
    spec.router.selector = make_piece(choice::selectors(), "stochastic", {{"inference", inference}});
    spec.router.weights.weighting = choice::Weighting::kEqual;
  }
  return spec;
}

Labelled labelled(const Clusters::Points& points) {
  return {.x = points.x, .label = points.cluster.remainder(kClasses)};
}

struct Data {
  Labelled training, validation;
  explicit Data(uint64_t seed) {
    RandomStream points(seed, "thor points"), fresh(seed, "thor fresh points");
    const Clusters clusters = fixed_clusters();
    training = labelled(clusters.draw(kTraining, points));
    validation = labelled(clusters.draw(kValidation, fresh));
  }
};

/// An arm's network with its optimiser.
class Training {
 public:
  Training(const Arm& arm, const Data& data, uint64_t seed, double learning_rate)
      : arm_(arm),
        data_(data),
        model_(spec_of(arm, "token"), seed),
        ensemble_(spec_of(arm, "ensemble"), seed),
        optimizer_(model_.parameters(), kAdam),
        learning_rate_(learning_rate),
        batches_(seed, "thor batches"),
        draws_(seed, "thor draws"),
        fresh_draws_(seed, "thor draws in use") {}

  void step() {
    loss(draw_batch(data_.training, kBatch, batches_)).backward();
    optimizer_.step(learning_rate_);
    optimizer_.zero_grad();
    model_.end_step();
  }

  struct Validation {
    double loss, accuracy;
  };
  Validation validate() {
    const Tensor logits = predict();
    return {.loss = mean_cross_entropy(logits, data_.validation.label).item<double>(),
            .accuracy = accuracy(logits, data_.validation.label)};
  }
  /// Mean symmetric divergence of two predictions for the same points.
  double disagreement() {
    const Tensor first = predict(), second = predict();
    return symmetric_kl(first, second, data_.validation.label).item<double>() / kValidation;
  }
  /// Validation loss of the mean of all experts' outputs in every layer.
  double ensemble_loss() {
    const at::NoGradGuard no_grad;
    ensemble_.copy_from(model_);
    return mean_cross_entropy(ensemble_.forward(data_.validation.x, false, fresh_draws_).logits,
                              data_.validation.label)
        .item<double>();
  }

 private:
  Tensor predict() {
    const at::NoGradGuard no_grad;
    return model_.forward(data_.validation.x, false, fresh_draws_).logits;
  }

  Tensor loss(const Labelled& batch) {
    const ExpertClassifier::Output first = model_.forward(batch.x, true, draws_);
    if (arm_.passes == 2) {
      const ExpertClassifier::Output second = model_.forward(batch.x, true, draws_);
      return consistency_loss(first.logits, second.logits, batch.label, arm_.alpha, 0) / kBatch;
    }
    const Tensor cross_entropy = mean_cross_entropy(first.logits, batch.label);
    return first.balance_loss.defined() ? cross_entropy + first.balance_loss : cross_entropy;
  }

  const Arm& arm_;
  const Data& data_;
  ExpertClassifier model_, ensemble_;
  AdamW optimizer_;
  double learning_rate_;
  RandomStream batches_, draws_, fresh_draws_;
};

/// All arms have the same steps; those with one pass a step go on for as many again, to be compared at equal
/// compute.
void run_arm(const Arm& arm, uint64_t seed, const std::function<void()>& stepped, Recorder& recorder) {
  const Data data(seed);
  Training training(arm, data, seed, recorder.learning_rate(arm.name, kLearningRate));
  double best = INFINITY;
  const auto train = [&] {
    Training::Validation last = {};
    for (int64_t step = 1; step <= kSteps; ++step) {
      training.step();
      stepped();
      if (step % kCheckEvery != 0) continue;
      last = training.validate();
      best = std::min(best, last.loss);
    }
    return last;
  };
  const Training::Validation last = train();
  recorder.add(arm.name, "best loss", best);
  recorder.add(arm.name, "last loss", last.loss);
  recorder.add(arm.name, "last minus best loss", last.loss - best);
  recorder.add(arm.name, "accuracy", last.accuracy);
  if (!arm.learned) recorder.add(arm.name, "loss of the ensemble", training.ensemble_loss());
  if (arm.passes == 2) recorder.add(arm.name, "disagreement", training.disagreement());
  if (arm.passes == 1) train();
  recorder.add(arm.name, "best loss at equal compute", best);
}

void run(uint64_t seed, Recorder& recorder) {
  int64_t done = 0;
  const auto total = static_cast<double>(kSteps * std::ssize(kArms) * 2);
  for (const Arm& arm : kArms) {
    // 1200 steps of one pass are as much work as 600 of two
    const auto stepped = [&] { recorder.progress(static_cast<double>(done += arm.passes) / total); };
    run_arm(arm, seed, stepped, recorder);
  }
}

std::vector<Finding> judge(const Results& r) {
  const auto apart = [&](const char* arm, const char* other, const char* metric) {
    return differences(r.at(arm, metric), r.at(other, metric));
  };
  const auto mean = [&](const char* arm, const char* metric) { return r.mean(arm, metric); };
  const double last_loss = std::ranges::max(apart("random", "Switch", "last loss"));
  const double more_accurate = std::ranges::min(apart("random", "Switch", "accuracy"));
  const double thor_random = std::ranges::max(apart(kThor, "random", "best loss"));
  const double random_switch = std::ranges::max(apart("random", "Switch", "best loss"));
  const double thor_dense = std::ranges::max(apart(kThor, "dense", "best loss"));
  const auto rise = [&](const char* arm) -> const std::vector<double>& {
    return r.at(arm, "last minus best loss").values;
  };
  const double thor_rise = std::ranges::max(rise(kThor)), dense_rise = std::ranges::min(rise("dense")),
               switch_rise = std::ranges::min(rise("Switch"));
  const double agreement =
      std::ranges::max(ratios(r.at(kThor, "disagreement"), r.at("random", "disagreement")));
  return {
      {"a learned gate is no better than the lot: last loss of random below Switch's, accuracy at least 0.02 "
       "higher, in every seed",
       fmt::format("{:+.3f} and {:+.3f} in the worst seed", last_loss, more_accurate),
       last_loss < 0 && more_accurate >= 0.02,
       mean("random", "last loss") < mean("Switch", "last loss") &&
           mean("random", "accuracy") > mean("Switch", "accuracy")},
      {"consistency helps: best loss of THOR (alpha 5) below random, random below Switch, and THOR below "
       "dense "
       "by at least 0.03, in every seed",
       fmt::format("{:+.3f}, {:+.3f} and {:+.3f} in the worst seed", thor_random, random_switch, thor_dense),
       thor_random < 0 && random_switch < 0 && thor_dense <= -0.03,
       mean(kThor, "best loss") < mean("random", "best loss") &&
           mean("random", "best loss") < mean("Switch", "best loss") &&
           mean(kThor, "best loss") < mean("dense", "best loss")},
      {"no overfitting: last minus best loss at most 0.03 for THOR (alpha 5), at least 0.15 for dense and "
       "0.3 "
       "for Switch, in every seed",
       fmt::format("{:.3f}, {:.3f} and {:.3f} in the worst seed", thor_rise, dense_rise, switch_rise),
       thor_rise <= 0.03 && dense_rise >= 0.15 && switch_rise >= 0.3,
       mean(kThor, "last minus best loss") < mean("dense", "last minus best loss") &&
           mean(kThor, "last minus best loss") < mean("Switch", "last minus best loss")},
      {"agreement: disagreement of THOR (alpha 5) at most half of random's, in every seed",
       fmt::format("{:.2f} of it in the worst seed", agreement), agreement <= 0.5,
       mean(kThor, "disagreement") < mean("random", "disagreement")}};
}

}  // namespace

Experiment thor() {
  return {
      .slug = "thor",
      .title = "THOR (experts by lot)",
      .source = "Zuo et al. 2022, arXiv 2110.04260",
      .claim = "experts drawn at random and made to agree beat a learned gate when data are few",
      .published = "1 to 2 BLEU above Transformer and Switch on low-resource translation",
      .criterion =
          "random routing is no worse than Switch, consistency lowers the best loss below Switch's and the "
          "dense model's, THOR does not overfit where they do, and two draws agree",
      .arms = arm_names(),
      .budget_seconds = 5,
      .tuned_by = "best loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

// THOR (Zuo et al. 2022): a small training set, experts by lot, and two passes that should agree; with the
// budget full a language model on little text, too.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "experiments/clusters.h"
#include "experiments/list.h"
#include "experiments/real_text.h"
#include "experiments/small_model.h"
#include "gatewright/layers/consistency.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kWidth = 16, kClasses = 8, kTraining = 300, kValidation = 4000;
constexpr int64_t kBatch = 64;
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
constexpr const char *kModel = "language model: ",  // before its metrics
    *kModelBest = "language model: best loss at equal compute";

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

/// An arm's network in training, and what it says of the validation data.
class Training {
 public:
  virtual ~Training() = default;
  virtual void step() = 0;
  /// Logits [n, classes] by one expert a point and layer, every time drawn anew.
  virtual Tensor predict() = 0;
  /// The same of the mean of all experts' outputs in every layer.
  virtual Tensor predict_by_ensemble() = 0;
  virtual Tensor labels() const = 0;
};

// ---- A classifier ----

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

class ClassifierTraining final : public Training {
 public:
  ClassifierTraining(const Arm& arm, const Data& data, uint64_t seed, double learning_rate)
      : arm_(arm),
        data_(data),
        model_(spec_of(arm, "token"), seed),
        ensemble_(spec_of(arm, "ensemble"), seed),
        optimizer_(model_.parameters(), kAdam),
        learning_rate_(learning_rate),
        batches_(seed, "thor batches"),
        draws_(seed, "thor draws"),
        fresh_draws_(seed, "thor draws in use") {}

  void step() override {
    loss(draw_batch(data_.training, kBatch, batches_)).backward();
    optimizer_.step(learning_rate_);
    optimizer_.zero_grad();
    model_.end_step();
  }
  Tensor predict() override { return model_.forward(data_.validation.x, false, fresh_draws_).logits; }
  Tensor predict_by_ensemble() override {
    ensemble_.copy_from(model_);
    return ensemble_.forward(data_.validation.x, false, fresh_draws_).logits;
  }
  Tensor labels() const override { return data_.validation.label; }

 private:
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

// ---- A language model ----

/// Every second layer has experts, beginning with the first; each is as wide as a feed-forward of its own.
std::string recipe_of(const Arm& arm, const std::string& inference, const Scale& scale) {
  const std::string routing =
      arm.learned ? fmt::format("top_k = 1\ninit = {:.4g}\n[balance.switch]\nweight = 0.01\n", scale.init())
                  : fmt::format(
                        "scorer = \"uniform\"\nselector = \"stochastic\"\ninference = \"{}\"\n"
                        "weights = \"equal\"\n",
                        inference);
  const std::string objective =
      arm.passes == 2
          ? fmt::format("[train]\nobjective = \"consistency\"\nalpha = {:.1f}\nlabel_smoothing = 0.0\n",
                        arm.alpha)
          : "";
  return fmt::format(
      "{0}routed_every = 2\ndense_width = {1}\n"
      "[experts]\nbank = \"relu\"\nbiases = true\nnum_experts = {2}\nwidth = {1}\ninit = {3:.4g}\n"
      "[routing]\n{4}{5}",
      scale.model_recipe(), scale.width, arm.experts, scale.init(), routing, objective);
}

/// So little that it is read many times.
struct Text {
  static constexpr int64_t kBatches = 20;
  int64_t vocabulary = 0;
  std::vector<Batch> known;
  Batch fresh;

  Text(const FullBudget& full, const Scale& scale, uint64_t seed) {
    RandomStream text(seed, "thor text"), unseen(seed, "thor fresh text");
    const Domains domains =
        full.text.domains(std::array<std::string_view, 4>{"encyclopedia", "maths", "code", "languages"});
    vocabulary = domains.vocabulary;
    for (int64_t b = 0; b < kBatches; ++b)
      known.push_back(text_of(domains.training, scale.rows, scale.length, text));
    fresh = text_of(domains.fresh, scale.fresh_rows, scale.length, unseen);
  }
};

class ModelTraining final : public Training {
 public:
  ModelTraining(const Arm& arm, const Text& text, const Scale& scale, uint64_t seed)
      : text_(text),
        model_(recipe_of(arm, "token", scale), text.vocabulary, seed, kLearningRate),
        ensemble_(recipe_of(arm, "ensemble", scale), text.vocabulary, seed, kLearningRate) {}

  void step() override { model_.step({text_.known[steps_++ % text_.known.size()]}); }
  Tensor predict() override { return logits_of(model_.decoder()); }
  Tensor predict_by_ensemble() override {
    copy_parameters(model_.decoder(), ensemble_.decoder());
    return logits_of(ensemble_.decoder());
  }
  Tensor labels() const override { return text_.fresh.targets.flatten(); }

 private:
  Tensor logits_of(Decoder& decoder) {
    return decoder.logits(decoder.forward(text_.fresh, {.draw = draws_++}).hidden).flatten(0, 1);
  }

  const Text& text_;
  SmallModel model_, ensemble_;
  size_t steps_ = 0;
  uint64_t draws_ = 0;
};

// ---- Both ----

struct Trial {
  const char* prefix;  // of the metrics
  int64_t steps, check_every;
};

/// All arms have the same steps; those with one pass a step go on for as many again, to be compared at equal
/// compute.
void run_arm(const Arm& arm, const Trial& trial, Training& training, const std::function<void()>& stepped,
             Recorder& recorder) {
  const auto add = [&](const std::string& metric, double value) {
    recorder.add(arm.name, trial.prefix + metric, value);
  };
  const Tensor labels = training.labels();
  const auto loss_of = [&](const Tensor& logits) {
    return mean_cross_entropy(logits, labels).item<double>();
  };
  double best = INFINITY;
  const auto train = [&] {
    Tensor last;
    for (int64_t step = 1; step <= trial.steps; ++step) {
      training.step();
      stepped();
      if (step % trial.check_every != 0) continue;
      const at::NoGradGuard no_grad;
      last = training.predict();
      best = std::min(best, loss_of(last));
    }
    return last;
  };
  const Tensor last = train();
  {
    const at::NoGradGuard no_grad;
    add("best loss", best);
    add("last loss", loss_of(last));
    add("last minus best loss", loss_of(last) - best);
    add("accuracy", accuracy(last, labels));
    if (!arm.learned) add("loss of the ensemble", loss_of(training.predict_by_ensemble()));
    if (arm.passes == 2) {
      const Tensor first = training.predict(), second = training.predict();
      add("disagreement",
          symmetric_kl(first, second, labels).item<double>() / static_cast<double>(labels.numel()));
    }
  }
  if (arm.passes == 1) train();
  add("best loss at equal compute", best);
}

/// Steps of all arms in passes: twice as many steps of one pass are as much work as those of two.
double work_of(const Trial& trial) { return static_cast<double>(trial.steps * std::ssize(kArms) * 2); }

void run_language_model(uint64_t seed, const FullBudget& full, Recorder& recorder) {
  const Scale scale = full.scale_of(512);
  const int64_t steps = scale.steps / 2;
  // The best loss comes early, on so little text.
  const Trial trial = {kModel, steps, std::max<int64_t>(1, steps / 75)};
  const Text text(full, scale, seed);
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    ModelTraining training(arm, text, scale, seed);
    const auto stepped = [&] { recorder.progress(static_cast<double>(done += arm.passes) / work_of(trial)); };
    run_arm(arm, trial, training, stepped, recorder);
  }
}

void run(uint64_t seed, Recorder& recorder) {
  if (const FullBudget* full = recorder.full()) run_language_model(seed, *full, recorder);
  constexpr Trial kTrial = {"", 600, 50};
  const Data data(seed);
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    ClassifierTraining training(arm, data, seed, recorder.learning_rate(arm.name, kLearningRate));
    const auto stepped = [&] {
      done += arm.passes;
      recorder.progress(recorder.full() ? 1 : static_cast<double>(done) / work_of(kTrial));
    };
    run_arm(arm, kTrial, training, stepped, recorder);
  }
}

std::vector<Finding> language_model_findings(const Results& r) {
  const auto best = [&](const char* other) {
    return differences(r.at(kThor, kModelBest), r.at(other, kModelBest));
  };
  const auto rise = [&](const char* arm) -> const std::vector<double>& {
    return r.at(arm, kModel + std::string("last minus best loss")).values;
  };
  const double worst_random = std::ranges::max(best("random")),
               worst_switch = std::ranges::max(best("Switch")), worst_dense = std::ranges::max(best("dense"));
  const double thor_rise = std::ranges::max(rise(kThor)),
               other_rise = std::min(std::ranges::min(rise("dense")), std::ranges::min(rise("Switch")));
  return {
      {"a language model on 20 batches: best loss of THOR (alpha 5) at equal compute below random's, "
       "Switch's and "
       "the dense model's, in every seed",
       fmt::format("{:+.3f}, {:+.3f} and {:+.3f} in the worst seed", worst_random, worst_switch, worst_dense),
       worst_random < 0 && worst_switch < 0 && worst_dense < 0,
       mean_of(best("random")) < 0 && mean_of(best("Switch")) < 0 && mean_of(best("dense")) < 0},
      {"there its last minus best loss is at most half of the dense model's and of Switch's, in every seed",
       fmt::format("{:.3f}, {:.3f} in the worst seed", thor_rise, other_rise), thor_rise <= other_rise / 2,
       thor_rise < other_rise}};
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
  std::vector<Finding> findings = {
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
  if (r.has(kThor, kModelBest)) {
    for (Finding& f : language_model_findings(r)) findings.push_back(std::move(f));
  }
  return findings;
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
      .full_seconds = 600,
      .tuned_by = "best loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

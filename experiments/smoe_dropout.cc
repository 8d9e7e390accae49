// SMoE-Dropout (Chen et al. 2023): a fixed random router with a growing number of experts, against dense
// training and a learned router, on so little text that a network can learn it by heart.
#include <fmt/format.h>

#include <array>

#include "experiments/list.h"
#include "experiments/markov_domains.h"
#include "experiments/real_text.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kExperts = 8;
constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 2,
                         .width = 32,
                         .length = 32,
                         .rows = 16,
                         .steps = 350,
                         .fresh_rows = 256};
/// Text is read about nine times.
int64_t num_batches(const Scale& scale) { return scale.steps * 4 / 35; }
constexpr int64_t kCounts[] = {1, 2, 4, 8};
constexpr double kLearningRate = 3e-3;

struct Arm {
  const char* name;
  const char* routing;
  const char* count_key;  // that says how many experts a token visits in evaluation; "": it is fixed
  int64_t count;          // in evaluation, unless another is asked for
  const char* balance;
};
constexpr Arm kArms[] = {
    {"dense", "scorer = \"uniform\"\nselector = \"all\"\nweights = \"equal\"\nscale = 8.0\n", "", kExperts,
     ""},
    {"SMoE-Dropout",
     "scorer = \"fixed_linear\"\nselector = \"scheduled_top_k\"\nk_min = 4\nk_max = 8\n"
     "weights = \"softmax_chosen\"\n",
     "k_inference", kExperts, ""},
    {"learned top-2", "bias = true\ninit = 0.1\nweights = \"softmax_chosen\"\n", "top_k", 2,
     "[balance.switch]\nweight = 0.01\n"}};

std::string recipe_of(const Arm& arm, int64_t count, const Scale& scale) {
  const std::string chosen = *arm.count_key ? fmt::format("{} = {}\n", arm.count_key, count) : "";
  return fmt::format(
      "{}[experts]\nbank = \"relu\"\nbiases = true\nnum_experts = {}\nwidth = {}\ninit = {:.4g}\n"
      "[routing]\n{}{}{}",
      scale.model_recipe(), kExperts, scale.width, scale.init(), arm.routing, chosen, arm.balance);
}

struct Text {
  Domains domains;
  std::vector<Batch> training;
  Batch fresh;

  Text(const RealText* text, const Scale& scale, uint64_t seed) {
    RandomStream tables(seed, "smoe-dropout domains"), known(seed, "smoe-dropout text"),
        unseen(seed, "smoe-dropout fresh text");
    domains =
        text ? text->domains(std::array<std::string_view, 4>{"encyclopedia", "maths", "code", "languages"})
             : generated_domains(make_markov_domains(tables), kDomainVocabulary);
    for (int64_t b = 0; b < num_batches(scale); ++b)
      training.push_back(text_of(domains.training, scale.rows, scale.length, known));
    fresh = text_of(domains.fresh, scale.fresh_rows, scale.length, unseen);
  }
};

/// The trained model with another number of experts for each token.
SmallModel::Evaluation evaluate_with(const Arm& arm, int64_t count, const Scale& scale, SmallModel& trained,
                                     const Text& text) {
  SmallModel model(recipe_of(arm, count, scale), text.domains.vocabulary, 0, kLearningRate);
  copy_parameters(trained.decoder(), model.decoder());
  return model.evaluate(text.fresh);
}

double mean_imbalance(const std::vector<RoutingRecord>& routing) {
  std::vector<double> layers;
  for (const RoutingRecord& r : routing) layers.push_back(load_imbalance(expert_counts(r.assignment)));
  return mean_of(layers);
}

void measure(const Arm& arm, const Scale& scale, SmallModel& trained, const Text& text, Recorder& recorder) {
  recorder.add(arm.name, "validation loss", trained.evaluate(text.fresh).cross_entropy);
  if (!*arm.count_key) return;
  for (int64_t count : kCounts) {
    const auto result = evaluate_with(arm, count, scale, trained, text);
    recorder.add(arm.name, fmt::format("loss with {} of 8", count), result.cross_entropy);
    if (count == 2) recorder.add(arm.name, "load imbalance with 2 of 8", mean_imbalance(result.routing));
  }
}

void run(uint64_t seed, Recorder& recorder) {
  const Scale scale = recorder.scale(kFast, 128);
  const Text text(recorder.real_text(), scale, seed);
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    SmallModel model(recipe_of(arm, arm.count, scale), text.domains.vocabulary, seed,
                     recorder.learning_rate(arm.name, kLearningRate), scale.steps);
    for (int64_t step = 0; step < scale.steps; ++step) {
      model.step({text.training[static_cast<size_t>(step % num_batches(scale))]});
      recorder.progress(static_cast<double>(++done) / static_cast<double>(std::ssize(kArms) * scale.steps));
    }
    measure(arm, scale, model, text, recorder);
  }
}

std::vector<Finding> judge(const Results& r) {
  const auto loss = [&](const char* arm, int64_t count) {
    return r.mean(arm, fmt::format("loss with {} of 8", count));
  };
  const char *slim = "SMoE-Dropout", *learned = "learned top-2";
  bool always_falls = true;
  for (size_t i = 0; i + 1 < std::size(kCounts); ++i)
    always_falls = always_falls && loss(slim, kCounts[i + 1]) < loss(slim, kCounts[i]);
  const double fall = loss(slim, 1) - loss(slim, 8), rise = loss(learned, 8) - loss(learned, 2);
  const double ahead = loss(learned, 8) - loss(slim, 8),
               behind = loss(slim, 8) - r.mean("dense", "validation loss");
  return {{"self-slimmable: the loss falls with every doubling of the experts used, from 1 to 8 by at least "
           "0.5",
           fmt::format("{:.2f}, {:.2f}, {:.2f}, {:.2f}", loss(slim, 1), loss(slim, 2), loss(slim, 4),
                       loss(slim, 8)),
           always_falls && fall >= 0.5, fall > 0},
          {"the learned router does not scale: with all 8 experts its loss is at least 0.1 higher than with "
           "the 2 it was trained with",
           fmt::format("{:+.3f}", rise), rise >= 0.1, rise > 0},
          {"with all experts SMoE-Dropout is at least 0.1 better than the learned router, and within 0.06 of "
           "dense training",
           fmt::format("{:.3f} better, {:+.3f} against dense", ahead, behind), ahead >= 0.1 && behind <= 0.06,
           ahead > 0}};
}

}  // namespace

Experiment smoe_dropout() {
  return {
      .slug = "smoe-dropout",
      .title = "SMoE-Dropout",
      .source = "Chen et al. 2023, arXiv 2303.01610",
      .claim =
          "with a fixed random router and a growing number of experts, more experts in use are always "
          "better; with a learned router they are not",
      .published =
          "better than dense training at the same size on enwik8, and quality that grows steadily with the "
          "experts in use",
      .criterion =
          "the loss falls by 0.5 from 1 to 8 experts, that of a learned top-2 router rises by 0.1 from 2 to "
          "8 "
          "and is 0.1 higher there, and dense training is at most 0.06 better",
      .arms = {"dense", "SMoE-Dropout", "learned top-2"},
      .budget_seconds = 20,
      .full_seconds = 330,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

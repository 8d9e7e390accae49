// Dynamic MoE (Huang et al. 2024): two languages, one certain and one not, and routers that choose how many
// experts a token visits.
#include <fmt/format.h>

#include <numeric>

#include "experiments/list.h"
#include "experiments/small_model.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kVocabulary = 64, kLength = 32, kRows = 16, kSteps = 600, kEdge = 20, kLayers = 3;
constexpr double kLearningRate = 3e-3;

struct Arm {
  const char* name;
  const char* routing;
  double entropy;
};
constexpr Arm kArms[] = {{"top-2", "selector = \"top_k\"\ntop_k = 2\n", 0},
                         {"top-p, beta 0", "selector = \"top_p\"\ntop_p = 0.4\n", 0},
                         {"top-p, beta 1e-4", "selector = \"top_p\"\ntop_p = 0.4\n", 1e-4},
                         {"top-p, beta 1e-2", "selector = \"top_p\"\ntop_p = 0.4\n", 1e-2}};

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

/// Balance terms are means over the layers in the paper and sums here. The initial weights have the spread
/// that linear maps of this size usually begin with: at 0.02 all experts begin equally likely, and the first
/// steps visit six.
std::string recipe_of(const Arm& arm) {
  std::string recipe = fmt::format(
      "[model]\nhidden_size = 32\nnum_layers = {}\nnum_heads = 4\ninit = 0.1\n"
      "[experts]\nnum_experts = 16\nwidth = 16\n[routing]\n{}weights = \"as_is\"\n"
      "[balance.switch]\nweight = {}\n",
      kLayers, arm.routing, 0.01 / kLayers);
  if (arm.entropy > 0) recipe += fmt::format("[balance.entropy]\nweight = {}\n", arm.entropy / kLayers);
  return recipe;
}

struct Languages {
  SuccessorLanguage easy, hard;

  static std::vector<int32_t> all_tokens() {
    std::vector<int32_t> all(kVocabulary);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  explicit Languages(RandomStream& random) : easy(all_tokens(), 1, random), hard(all_tokens(), 16, random) {}

  Batch mixed(RandomStream& random) const {
    std::vector<std::vector<int32_t>> rows;
    for (int64_t r = 0; r < kRows; ++r) rows.push_back((r % 2 ? hard : easy).sequence(kLength, random));
    return batch_of(rows);
  }
};

Batch fresh_text(const SuccessorLanguage& language, RandomStream& random) {
  constexpr int64_t kFresh = 128;
  std::vector<std::vector<int32_t>> rows;
  for (int64_t r = 0; r < kFresh; ++r) rows.push_back(language.sequence(kLength, random));
  return batch_of(rows);
}

void run_arm(const Arm& arm, uint64_t seed, int64_t done_before, Recorder& recorder) {
  RandomStream tables(seed, "dynamic-moe languages"), text(seed, "dynamic-moe text"),
      fresh(seed, "dynamic-moe fresh text");
  const Languages languages(tables);
  SmallModel model(recipe_of(arm), kVocabulary, seed, recorder.learning_rate(arm.name, kLearningRate));
  double first = 0, last = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const double experts = mean_of(model.step({languages.mixed(text)}).experts_per_token);
    if (step < kEdge) first += experts / kEdge;
    if (step >= kSteps - kEdge) last += experts / kEdge;
    recorder.progress(static_cast<double>(done_before + step + 1) / (std::size(kArms) * kSteps));
  }
  const auto easy = model.evaluate(fresh_text(languages.easy, fresh));
  const auto hard = model.evaluate(fresh_text(languages.hard, fresh));
  recorder.add(arm.name, "validation loss", (easy.cross_entropy + hard.cross_entropy) / 2);
  recorder.add(arm.name, "loss easy", easy.cross_entropy);
  recorder.add(arm.name, "loss hard", hard.cross_entropy);
  recorder.add(arm.name, "experts first steps", first);
  recorder.add(arm.name, "experts last steps", last);
  recorder.add(arm.name, "experts easy", mean_of(easy.experts_per_token));
  recorder.add(arm.name, "experts hard", mean_of(hard.experts_per_token));
  recorder.add(arm.name, "experts", (mean_of(easy.experts_per_token) + mean_of(hard.experts_per_token)) / 2);
  recorder.add(arm.name, "experts first layer",
               (easy.experts_per_token.front() + hard.experts_per_token.front()) / 2);
  recorder.add(arm.name, "experts last layer",
               (easy.experts_per_token.back() + hard.experts_per_token.back()) / 2);
}

void run(uint64_t seed, Recorder& recorder) {
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    run_arm(arm, seed, done, recorder);
    done += kSteps;
  }
}

std::vector<Finding> judge(const Results& r) {
  const auto mean = [&](const char* arm, const char* metric) { return r.mean(arm, metric); };
  const double slow_first = mean("top-p, beta 1e-4", "experts first steps");
  const double slow_last = mean("top-p, beta 1e-4", "experts last steps");
  const double sure_last = mean("top-p, beta 1e-2", "experts last steps");
  const double sure = mean("top-p, beta 1e-2", "experts"), free = mean("top-p, beta 0", "experts");
  const double loss_gap = mean("top-p, beta 1e-2", "validation loss") - mean("top-2", "validation loss");
  const auto& first_layer = r.at("top-p, beta 1e-2", "experts first layer").values;
  const auto& last_layer = r.at("top-p, beta 1e-2", "experts last layer").values;
  int64_t fewer_above = 0;
  for (size_t s = 0; s < last_layer.size(); ++s) fewer_above += last_layer[s] < first_layer[s];
  return {
      {"the mean count falls: above 3.5 in the first 20 steps, below 2.5 (beta 1e-4) and below 1.95 (beta "
       "1e-2) in "
       "the last 20",
       fmt::format("{:.2f}, {:.2f}, {:.2f}", slow_first, slow_last, sure_last),
       slow_first > 3.5 && slow_last < 2.5 && sure_last < 1.95,
       slow_last < slow_first && sure_last < slow_last},
      {"loss parity with fewer experts: with beta 1e-2 at most 1.9 experts, and a validation loss within "
       "0.006 of "
       "top-2's",
       fmt::format("{:.2f} experts, {:+.4f}", sure, loss_gap), sure <= 1.9 && loss_gap <= 0.006,
       sure < 2 && loss_gap <= 0.02},
      {"the count is controlled: beta 1e-2 uses at least 0.3 experts fewer than beta 0, and the last layer "
       "fewer than "
       "the first in most seeds",
       fmt::format("{:.2f} fewer, last layer fewer in {} of {}", free - sure, fewer_above, last_layer.size()),
       free - sure >= 0.3 && 2 * fewer_above > std::ssize(last_layer), free > sure}};
}

}  // namespace

Experiment dynamic_moe() {
  return {
      .slug = "dynamic-moe",
      .title = "Dynamic MoE (top-p routing)",
      .source = "Huang et al. 2024, arXiv 2403.07652",
      .claim = "top-p routing with an entropy loss reaches top-2's quality with fewer experts a token",
      .published = "0.7 points above top-2 with under 90 % of its activated parameters, 1.76 experts a token",
      .criterion =
          "the mean count falls in training, loss within 0.006 of top-2 at 1.9 experts or fewer, and the "
          "entropy loss controls the count",
      .arms = arm_names(),
      .budget_seconds = 90,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

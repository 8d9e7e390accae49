// Dynamic MoE (Huang et al. 2024): two languages, one certain and one not, and routers that choose how many
// experts a token visits.
#include <fmt/format.h>

#include <array>

#include "experiments/list.h"
#include "experiments/markov_domains.h"
#include "experiments/real_text.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kEdge = 20;
constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 3,
                         .width = 16,
                         .length = 32,
                         .rows = 16,
                         .steps = 600,
                         .fresh_rows = 128};
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
std::string recipe_of(const Arm& arm, const Scale& scale) {
  const auto layers = static_cast<double>(scale.num_layers);
  std::string recipe = fmt::format(
      "{}[experts]\nnum_experts = 16\nwidth = {}\n[routing]\n{}weights = \"as_is\"\n"
      "[balance.switch]\nweight = {}\n",
      scale.model_recipe(), scale.width, arm.routing, 0.01 / layers);
  if (arm.entropy > 0) recipe += fmt::format("[balance.entropy]\nweight = {}\n", arm.entropy / layers);
  return recipe;
}

/// An easy language, in which every token has one successor, and a hard one with sixteen; of real text,
/// stories for children and articles of an encyclopedia.
Domains easy_and_hard(const RealText* text, RandomStream& random) {
  if (text) return text->domains(std::array<std::string_view, 2>{"stories", "encyclopedia"});
  std::vector<SuccessorLanguage> languages;
  languages.emplace_back(domain_tokens(), 1, random);
  languages.emplace_back(domain_tokens(), 16, random);
  return generated_domains(std::move(languages), kDomainVocabulary);
}

void run_arm(const Arm& arm, uint64_t seed, int64_t done_before, const Scale& scale, Recorder& recorder) {
  RandomStream tables(seed, "dynamic-moe languages"), text(seed, "dynamic-moe text"),
      fresh(seed, "dynamic-moe fresh text");
  const Domains domains = easy_and_hard(recorder.real_text(), tables);
  SmallModel model(recipe_of(arm, scale), domains.vocabulary, seed,
                   recorder.learning_rate(arm.name, kLearningRate));
  double first = 0, last = 0;
  for (int64_t step = 0; step < scale.steps; ++step) {
    const double experts =
        mean_of(model.step({text_of(domains.training, scale.rows, scale.length, text)}).experts_per_token);
    if (step < kEdge) first += experts / kEdge;
    if (step >= scale.steps - kEdge) last += experts / kEdge;
    recorder.progress(static_cast<double>(done_before + step + 1) /
                      static_cast<double>(std::ssize(kArms) * scale.steps));
  }
  const auto evaluate = [&](size_t domain) {
    return model.evaluate(text_of({domains.fresh[domain]}, scale.fresh_rows, scale.length, fresh));
  };
  const auto easy = evaluate(0), hard = evaluate(1);
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
  const Scale scale = recorder.scale(kFast, 64);
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    run_arm(arm, seed, done, scale, recorder);
    done += scale.steps;
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
      .full_seconds = 330,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

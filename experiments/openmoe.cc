// OpenMoE (Xue et al. 2024): what a top-2 router with capacities depends on, when it stops changing, and
// which tokens lose their experts on text unlike the training data.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "experiments/list.h"
#include "experiments/markov_domains.h"
#include "experiments/real_text.h"
#include "gatewright/evaluate/specialisation.h"
#include "gatewright/routing/choice/selectors/ranked_capacity.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright::experiments {
namespace {

constexpr int64_t kExperts = 8, kTopK = 2, kQuarters = 4;
constexpr Scale kFast = {.hidden_size = 32,
                         .num_layers = 3,
                         .width = 16,
                         .length = 64,
                         .rows = 8,
                         .steps = 500,
                         .fresh_rows = 256};
constexpr int64_t kCheckpoints[] = {2, 10, 20, 50, 100};  // percent of the steps
constexpr double kLearningRate = 3e-3, kTrainingFactor = 1.25, kLeastCount = 128;

/// Part of the training in which a quarter of the text is of the second language, in percent of the steps.
struct Arm {
  const char* name;
  int64_t mixed_from = 0, mixed_to = 0;
  bool then_frozen = false;  // the router, after that part
};
constexpr Arm kArms[] = {{"OpenMoE"},
                         {"mixed at first", 0, 20},
                         {"mixed at last", 80, 100},
                         {"mixed at first, then a frozen router", 0, 20, true}};

std::vector<std::string> arm_names() {
  std::vector<std::string> names;
  for (const Arm& arm : kArms) names.emplace_back(arm.name);
  return names;
}

/// evaluation_factor: of the capacity outside training; 0: no limit. Routers begin as the authors' do, the
/// other weights with the spread with which linear maps of this size usually begin.
std::string recipe_of(double evaluation_factor, const Scale& scale) {
  return fmt::format(
      "{}[experts]\nnum_experts = {}\nwidth = {}\ninit = {:.4g}\n[routing]\ntop_k = {}\ninit = {:.4f}\n"
      "[routing.ranked_capacity]\nfactor = {:.2f}\nevaluation_factor = {:.2f}\n"
      "[balance.switch]\nweight = 0.01\n",
      scale.model_recipe(), kExperts, scale.width, scale.init(), kTopK,
      std::sqrt(0.1 / static_cast<double>(scale.hidden_size)), kTrainingFactor, evaluation_factor);
}

/// The language that is learned, and one unlike it; of real text, articles in English, and one book in eight
/// languages.
Domains two_languages(const RealText* text, RandomStream& random) {
  if (text) return text->domains(std::array<std::string_view, 2>{"encyclopedia", "languages"});
  std::vector<SuccessorLanguage> languages = make_markov_domains(random, 2);
  languages.back().mix_evenly(0.75, {0, 1, 2, 3, 4, 5});
  return generated_domains(std::move(languages), kDomainVocabulary);
}

Batch training_text(const Languages& languages, const Arm& arm, int64_t step, const Scale& scale,
                    RandomStream& random) {
  const bool mixed = 100 * step >= arm.mixed_from * scale.steps && 100 * step < arm.mixed_to * scale.steps;
  std::vector<std::vector<int32_t>> rows;
  for (int64_t r = 0; r < scale.rows; ++r) {
    const auto& language = mixed && r < scale.rows / 4 ? languages.back() : languages.front();
    rows.push_back(language->sequence(scale.length, random));
  }
  return batch_of(rows);
}

/// First choices of each expert, capacities aside, by token id and by position: one of each a routed layer.
struct FirstChoices {
  std::vector<KeyCounts> by_token, by_position;
};

FirstChoices first_choices(const std::vector<RoutingRecord>& routing, const Batch& text, int64_t vocabulary) {
  const Tensor tokens = text.tokens.contiguous();
  const int64_t length = text.length();
  const auto* token = tokens.data_ptr<int64_t>();
  FirstChoices result;
  for (const RoutingRecord& record : routing) {
    const Tensor best = record.scores.probabilities.argmax(-1).contiguous();
    const auto* expert = best.data_ptr<int64_t>();
    KeyCounts by_token(static_cast<size_t>(vocabulary), std::vector<double>(kExperts)),
        by_position(static_cast<size_t>(length), std::vector<double>(kExperts));
    for (int64_t t = 0; t < best.numel(); ++t) {
      ++by_token[static_cast<size_t>(token[t])][static_cast<size_t>(expert[t])];
      ++by_position[static_cast<size_t>(t % length)][static_cast<size_t>(expert[t])];
    }
    result.by_token.push_back(std::move(by_token));
    result.by_position.push_back(std::move(by_position));
  }
  return result;
}

double mean_specialisation(const std::vector<KeyCounts>& layers) {
  double sum = 0;
  for (const KeyCounts& counts : layers) sum += specialisation(counts, kLeastCount);
  return sum / static_cast<double>(layers.size());
}

/// The share of its most frequent expert in a key's choices, as a mean over frequent keys and layers.
double leading_share(const std::vector<KeyCounts>& layers) {
  std::vector<double> shares;
  for (const KeyCounts& counts : layers) {
    for (const std::vector<double>& key : counts) {
      const double all = mean_of(key) * static_cast<double>(key.size());
      if (all >= kLeastCount) shares.push_back(std::ranges::max(key) / all);
    }
  }
  return mean_of(shares);
}

double mean_overlap(const std::vector<KeyCounts>& a, const std::vector<KeyCounts>& b) {
  std::vector<double> layers;
  for (size_t l = 0; l < a.size(); ++l) layers.push_back(routing_overlap(a[l], b[l]).same_expert);
  return mean_of(layers);
}

/// The share of choices that the capacities dropped in each quarter of the sequences, as a mean over layers.
std::vector<double> dropped_by_quarter(const std::vector<RoutingRecord>& routing, int64_t sequences) {
  std::vector<double> mean(kQuarters);
  for (const RoutingRecord& record : routing) {
    const Tensor p = record.scores.probabilities.contiguous();
    const choice::ScoreRows rows{.values = {p.data_ptr<float>(), static_cast<size_t>(p.numel())},
                                 .num_tokens = p.size(0),
                                 .num_experts = p.size(1)};
    const choice::Selection selection{
        .rows = choice::by_token(to_pairs(record.assignment)),
        .before_capacity = choice::TopK(kTopK).choose(rows, {.layer = record.layer}).rows};
    const std::vector<double> dropped = choice::dropped_by_position(selection, sequences, kQuarters);
    for (size_t q = 0; q < mean.size(); ++q) mean[q] += dropped[q] / static_cast<double>(routing.size());
  }
  return mean;
}

/// The trained model with another capacity.
SmallModel::Evaluation evaluate_with(double factor, const Scale& scale, SmallModel& trained,
                                     const Batch& text) {
  SmallModel model(recipe_of(factor, scale), trained.decoder().spec().vocab_size, 0, kLearningRate);
  copy_parameters(trained.decoder(), model.decoder());
  return model.evaluate(text);
}

void freeze_routers(SmallModel& model) {
  for (const NamedTensor& p : model.decoder().parameters()) {
    if (p.name.ends_with(".mlp.gate.weight")) p.tensor.set_requires_grad(false);
  }
}

struct FreshText {
  Batch first, second;
};

void measure(const Arm& arm, const Scale& scale, SmallModel& model, const FreshText& fresh,
             const std::vector<std::vector<KeyCounts>>& checkpoints, Recorder& recorder) {
  const auto add = [&](const std::string& metric, double value) { recorder.add(arm.name, metric, value); };
  const auto dropped = [&](const SmallModel::Evaluation& evaluation) {
    return dropped_by_quarter(evaluation.routing, scale.fresh_rows);
  };
  const auto known = model.evaluate(fresh.first), other = model.evaluate(fresh.second);
  const auto roomy = evaluate_with(2.0, scale, model, fresh.second);
  const auto unlimited = evaluate_with(0, scale, model, fresh.second);
  add("validation loss", known.cross_entropy);
  add("loss without a limit", evaluate_with(0, scale, model, fresh.first).cross_entropy);
  add("loss in the second language", other.cross_entropy);
  const FirstChoices choices = first_choices(known.routing, fresh.first, model.decoder().spec().vocab_size);
  add("specialisation by token", mean_specialisation(choices.by_token));
  add("specialisation by position", mean_specialisation(choices.by_position));
  add("share of a token's leading expert", leading_share(choices.by_token));
  for (size_t c = 0; c + 1 < checkpoints.size(); ++c)
    add(fmt::format("overlap of {} % with the end", kCheckpoints[c]),
        mean_overlap(checkpoints[c], checkpoints.back()));
  add("dropped, first language, last quarter", dropped(known).back());
  add("dropped, second language, first quarter", dropped(other).front());
  add("dropped, second language, last quarter", dropped(other).back());
  add("the same with factor 2", dropped(roomy).back());
  add("the same without a limit", dropped(unlimited).back());
}

void run(uint64_t seed, Recorder& recorder) {
  RandomStream tables(seed, "openmoe languages"), unseen(seed, "openmoe fresh text");
  Scale scale = recorder.scale(kFast, 64);
  scale.fresh_rows = kFast.fresh_rows;  // enough for many token ids to be frequent in real text, too
  const Domains languages = two_languages(recorder.real_text(), tables);
  const auto fresh_text = [&](const auto& language) {
    return text_of({language}, scale.fresh_rows, scale.length, unseen);
  };
  const FreshText fresh{.first = fresh_text(languages.fresh.front()),
                        .second = fresh_text(languages.fresh.back())};
  int64_t done = 0;
  for (const Arm& arm : kArms) {
    RandomStream text(seed, "openmoe text");
    SmallModel model(recipe_of(kTrainingFactor, scale), languages.vocabulary, seed,
                     recorder.learning_rate(arm.name, kLearningRate), scale.steps);
    std::vector<std::vector<KeyCounts>> checkpoints;
    for (int64_t step = 1; step <= scale.steps; ++step) {
      model.step({training_text(languages.training, arm, step - 1, scale, text)});
      if (arm.then_frozen && 100 * step == arm.mixed_to * scale.steps) freeze_routers(model);
      while (checkpoints.size() < std::size(kCheckpoints) &&
             100 * step >= kCheckpoints[checkpoints.size()] * scale.steps)
        checkpoints.push_back(
            first_choices(model.evaluate(fresh.first).routing, fresh.first, languages.vocabulary).by_token);
      recorder.progress(static_cast<double>(++done) / static_cast<double>(std::ssize(kArms) * scale.steps));
    }
    measure(arm, scale, model, fresh, checkpoints, recorder);
  }
}

/// The numbers of the plain arm in one seed.
class OfSeed {
 public:
  OfSeed(const Results& results, size_t seed) : results_(results), seed_(seed) {}
  double operator[](const char* metric) const { return results_.at("OpenMoE", metric).values[seed_]; }

 private:
  const Results& results_;
  size_t seed_;
};

double least(const Results& r, auto value) {
  double result = INFINITY;
  for (size_t s = 0; s < static_cast<size_t>(r.seeds()); ++s) result = std::min(result, value(OfSeed(r, s)));
  return result;
}

double most(const Results& r, auto value) {
  return -least(r, [&](const OfSeed& v) { return -value(v); });
}

double ratio_of(double a, double b) { return a == 0 ? 0 : b == 0 ? INFINITY : a / b; }

Finding depends_on_tokens(const Results& r) {
  const double ratio = least(r, [](const OfSeed& v) {
    return ratio_of(v["specialisation by token"], v["specialisation by position"]);
  });
  const double share = least(r, [](const OfSeed& v) { return v["share of a token's leading expert"]; });
  return {.condition =
              "specialisation by token id at least 4 times that by position, and the most frequent "
              "expert of a token id takes at least 85 % of its first choices, in every seed",
          .measured = fmt::format("{:.1f} times, {:.0f} % in the worst seed", ratio, 100 * share),
          .met = ratio >= 4 && share >= 0.85,
          .direction = ratio > 1};
}

Finding learns_early(const Results& r) {
  const double begin = most(r, [](const OfSeed& v) { return v["overlap of 2 % with the end"]; });
  const double fifth = least(r, [](const OfSeed& v) { return v["overlap of 20 % with the end"]; });
  const double half = least(r, [](const OfSeed& v) { return v["overlap of 50 % with the end"]; });
  return {.condition =
              "the leading experts of 0.8 of the token ids are the final ones after 20 % of the "
              "training, of 0.9 after 50 %, and of at most 0.65 after 2 %, in every seed",
          .measured = fmt::format("{:.2f}, {:.2f}, {:.2f} in the worst seed", fifth, half, begin),
          .met = fifth >= 0.8 && half >= 0.9 && begin <= 0.65,
          .direction = begin < fifth && fifth < half};
}

Finding drops_towards_the_end(const Results& r) {
  const double ratio = least(r, [](const OfSeed& v) {
    return ratio_of(v["dropped, second language, last quarter"],
                    v["dropped, second language, first quarter"]);
  });
  const double against_first = least(r, [](const OfSeed& v) {
    return ratio_of(v["dropped, second language, last quarter"], v["dropped, first language, last quarter"]);
  });
  return {.condition =
              "on the second language 2.5 times as much is dropped in the last quarter of positions "
              "as in the first, and twice as much as there on the first language, in every seed",
          .measured = fmt::format("{:.1f} and {:.1f} times in the worst seed", ratio, against_first),
          .met = ratio >= 2.5 && against_first >= 2,
          .direction = ratio > 1 && against_first > 1};
}

Finding capacity_helps(const Results& r) {
  const double left = most(r, [](const OfSeed& v) {
    return ratio_of(v["the same with factor 2"], v["dropped, second language, last quarter"]);
  });
  const double unlimited = most(r, [](const OfSeed& v) { return v["the same without a limit"]; });
  const double loss =
      most(r, [](const OfSeed& v) { return v["loss without a limit"] - v["validation loss"]; });
  return {.condition =
              "factor 2 drops at least a third less there, no limit nothing, and without a limit the "
              "loss on the first language is not higher, in every seed",
          .measured =
              fmt::format("{:.0f} % less, {}, {:+.4f} in the worst seed", 100 * (1 - left), unlimited, loss),
          .met = left <= 2.0 / 3 && unlimited == 0 && loss <= 0,
          .direction = left < 1 && unlimited == 0};
}

std::vector<Finding> judge(const Results& r) {
  return {depends_on_tokens(r), learns_early(r), drops_towards_the_end(r), capacity_helps(r)};
}

}  // namespace

Experiment openmoe() {
  return {
      .slug = "openmoe",
      .title = "OpenMoE",
      .source = "Xue et al. 2024, arXiv 2402.01739",
      .claim =
          "routing follows token ids whatever the context, is settled early, and drops tokens towards the "
          "end on text unlike the training data",
      .published =
          "the same three findings on models of up to 34 B parameters; 30 % and more dropped at the "
          "end of multi-turn and multilingual text",
      .criterion =
          "specialisation by token id 4 times that by position, 80 % of token ids settled after a fifth of "
          "the "
          "training, 2.5 times as many drops at the end of text of another language, and only capacity mends "
          "it",
      .arms = arm_names(),
      .budget_seconds = 30,
      .full_seconds = 280,
      .tuned_by = "validation loss",
      .learning_rate = kLearningRate,
      .run = run,
      .judge = judge};
}

}  // namespace gatewright::experiments

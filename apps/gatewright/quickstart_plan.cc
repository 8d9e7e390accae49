#include "quickstart_plan.h"

#include <fmt/format.h>

#include <chrono>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/configuration_json.h"
#include "gatewright/routing/choice/top_p_calibration.h"
#include "gatewright/train/device.h"
#include "gatewright/train/train.h"
#include "gatewright/train/trainer.h"
#include "gatewright/train/validation.h"
#include "recipes.h"

namespace gatewright::command {
namespace {

namespace fs = std::filesystem;

constexpr double kPilotShare = 0.15;
/// Of the minutes: the rest goes into reading, tokenising, validation, samples.
constexpr double kTrainingShare = 0.85;
constexpr int64_t kLeastSteps = 20;
constexpr double kExpertsPerToken = 2;
constexpr int64_t kCalibrationSequences = 64;

int64_t pilot_steps(int64_t steps) {
  return std::max<int64_t>(1, std::llround(kPilotShare * static_cast<double>(steps)));
}

void set_top_p(DecoderSpec& spec, double top_p) {
  for (FeedForwardSpec& layer : spec.layers) layer.router.selector.values.set("top_p", top_p);
}

double seconds_a_step(const QuickstartRun& run, const TrainingData& data) {
  constexpr int kWarmUp = 2, kTimed = 6;
  const Recipe recipe = recipe_of(run, {.steps = 1000});
  DecoderSpec spec = recipe.model;
  spec.vocab_size = data.tokenizer.vocab_size();
  Decoder model(spec, recipe.seed);
  model.to(choose_device(recipe.train.device));
  TrainStream stream(data.cache, recipe.train.sequence_length, data.token_bytes, recipe.seed);
  Trainer trainer(model, stream, recipe.train);
  for (int i = 0; i < kWarmUp; ++i) trainer.step();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kTimed; ++i) trainer.step();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kTimed;
}

/// The p at which the model's routers visit as many experts as top-2. From their probabilities, which depend
/// on p a little (what lower layers compute does), so from those under the p that is found, too.
std::optional<double> calibrated_top_p(const fs::path& folder, const TrainingData& data) {
  const TrainOptions options = recipe_of(quickstart_runs()[2], {.steps = 1000}).train;
  std::optional<double> top_p;
  for (int round = 0; round < 2; ++round) {
    Decoder model = load_decoder(folder, [&](DecoderSpec& spec) {
      if (top_p) set_top_p(spec, *top_p);
    });
    model.to(choose_device(options.device));
    ValidationStream stream(data.cache, options.sequence_length, data.token_bytes, Part::kTrain,
                            kCalibrationSequences);
    std::vector<float> all;
    int64_t experts = 1;
    validate_on(model, stream, options.batch_size, static_cast<int64_t>(data.cache.domains().size()),
                [&](const PackedBatch&, const DecoderOutput& output) {
                  for (const RoutingRecord& record : output.routing) {
                    const Tensor rows = record.scores.probabilities.to(at::kCPU).contiguous();
                    experts = rows.size(1);
                    all.insert(all.end(), rows.data_ptr<float>(), rows.data_ptr<float>() + rows.numel());
                  }
                });
    if (interrupted()) return std::nullopt;
    top_p = choice::top_p_for(
        {.values = all, .num_tokens = static_cast<int64_t>(all.size()) / experts, .num_experts = experts},
        kExpertsPerToken);
  }
  return top_p;
}

}  // namespace

const std::vector<QuickstartRun>& quickstart_runs() {
  static const std::vector<QuickstartRun> runs = {
      {"dense", "quickstart-dense"}, {"top-2", "quickstart-top-2"}, {"top-p", "quickstart-top-p"}};
  return runs;
}

std::optional<QuickstartPlan> read_plan(const fs::path& folder) {
  const fs::path file = folder / "plan.json";
  if (!fs::exists(file)) return std::nullopt;
  const Json json = parse_json(read_file(file, 1 << 20), file.string());
  try {
    QuickstartPlan plan{
        .minutes = json.at("minutes"), .data = json.at("data"), .steps = json.at("steps"), .top_p = {}};
    if (json.contains("top_p")) plan.top_p = json["top_p"].get<double>();
    if (json.contains("settled_top_p")) plan.settled_top_p = json["settled_top_p"].get<double>();
    return plan;
  } catch (const Json::exception&) {
    fail("{} is damaged; --restart begins anew", file.string());
  }
}

void write_plan(const fs::path& folder, const QuickstartPlan& plan) {
  OrderedJson json = {{"minutes", plan.minutes}, {"data", plan.data}, {"steps", plan.steps}};
  if (plan.top_p) json["top_p"] = *plan.top_p;
  if (plan.settled_top_p) json["settled_top_p"] = *plan.settled_top_p;
  write_file(folder / "plan.json", json.dump(2) + "\n");
}

Recipe recipe_of(const QuickstartRun& run, const QuickstartPlan& plan) {
  const StartingRecipe* recipe = find_recipe(run.recipe);
  require(recipe, "internal: there is no recipe {}", run.recipe);
  std::vector<std::string> settings = {
      fmt::format("train.steps={}", plan.steps),
      fmt::format("train.warmup_steps={}", std::min<int64_t>(50, plan.steps / 10)),
      fmt::format("train.log_every={}", std::max<int64_t>(1, plan.steps / 10))};
  if (plan.top_p && run.name == "top-p") settings.push_back(fmt::format("routing.top_p={}", *plan.top_p));
  return make_recipe(recipe->text, "recipe " + run.recipe, settings);
}

int64_t steps_for(double minutes, const TrainingData& data, Events& events) {
  const double dense = seconds_a_step(quickstart_runs()[0], data);
  const double mixture = seconds_a_step(quickstart_runs()[1], data);
  const double all = dense + (2 + kPilotShare) * mixture;
  const auto steps = static_cast<int64_t>(kTrainingShare * 60 * minutes / all);
  events.note(
      fmt::format("a step of 2,048 tokens takes {:.0f} ms dense and {:.0f} ms as a mixture: {} steps each "
                  "fit into {:g} minutes",
                  1e3 * dense, 1e3 * mixture, std::max(steps, kLeastSteps), minutes));
  return std::max(steps, kLeastSteps);
}

std::optional<double> pilot_top_p(const fs::path& folder, const QuickstartPlan& plan, const Corpus& corpus,
                                  const TrainingData& data, Events& events) {
  QuickstartPlan pilot = plan;
  pilot.steps = pilot_steps(plan.steps);
  const fs::path out = folder / "pilot";
  const TrainOutcome outcome = train_model({.recipe = recipe_of(quickstart_runs()[2], pilot),
                                            .out = out,
                                            .cache = folder / "cache",
                                            .tokenizer = &data.tokenizer},
                                           corpus, events);
  if (outcome.kind == TrainOutcome::Kind::kInterrupted) return std::nullopt;
  const auto top_p = calibrated_top_p(out, data);
  if (top_p) fs::remove_all(out);
  return top_p;
}

std::optional<double> settle_top_p(const fs::path& folder, const TrainingData& data) {
  const fs::path model = folder / "top-p", config = model / "config.json";
  const auto top_p = calibrated_top_p(model, data);
  if (!top_p) return std::nullopt;
  DecoderSpec spec = parse_config_json(read_file(config, 1 << 20), config.string());
  set_top_p(spec, *top_p);
  write_file(config, to_config_json(spec).dump(2) + "\n");
  return top_p;
}

}  // namespace gatewright::command

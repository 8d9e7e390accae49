#include "quickstart_plan.h"

#include <fmt/format.h>

#include <chrono>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/train/device.h"
#include "gatewright/train/trainer.h"
#include "recipes.h"

namespace gatewright::command {
namespace {

namespace fs = std::filesystem;

/// Of the minutes: the rest goes into reading, tokenising, validation, samples.
constexpr double kTrainingShare = 0.85;
constexpr int64_t kLeastSteps = 20;

/// Of 500,000 tokens, batches of 8, 4 and 2 sequences left the dense model at 2.44, 2.41 and 2.49 bits a
/// byte, top-2 at 2.55, 2.42 and 2.48: the routers begin at random and need steps. With many steps larger
/// batches cost less a token.
constexpr int64_t kBatch = 4, kLargeBatch = 8;
constexpr int64_t kManySteps = 1200;  // of kBatch

double seconds_a_step(const QuickstartRun& run, int64_t batch_size, const TrainingData& data) {
  constexpr int kWarmUp = 2, kTimed = 6;
  const Recipe recipe = recipe_of(run, {.steps = 1000, .batch_size = batch_size});
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
    return QuickstartPlan{.minutes = json.at("minutes"),
                          .data = json.at("data"),
                          .steps = json.at("steps"),
                          .batch_size = json.at("batch_size")};
  } catch (const Json::exception&) {
    fail("{} is damaged; --restart begins anew", file.string());
  }
}

void write_plan(const fs::path& folder, const QuickstartPlan& plan) {
  const OrderedJson json = {
      {"minutes", plan.minutes}, {"data", plan.data}, {"steps", plan.steps}, {"batch_size", plan.batch_size}};
  write_file(folder / "plan.json", json.dump(2) + "\n");
}

Recipe recipe_of(const QuickstartRun& run, const QuickstartPlan& plan) {
  const StartingRecipe* recipe = find_recipe(run.recipe);
  require(recipe, "internal: there is no recipe {}", run.recipe);
  const std::vector<std::string> settings = {
      fmt::format("train.steps={}", plan.steps), fmt::format("train.batch_size={}", plan.batch_size),
      fmt::format("train.warmup_steps={}", std::min<int64_t>(50, plan.steps / 10)),
      fmt::format("train.log_every={}", std::max<int64_t>(1, plan.steps / 10))};
  return make_recipe(recipe->text, "recipe " + run.recipe, settings);
}

void decide_steps(QuickstartPlan& plan, const TrainingData& data, Events& events) {
  const auto decide = [&](int64_t batch_size) {
    const double dense = seconds_a_step(quickstart_runs()[0], batch_size, data);
    const double mixture = seconds_a_step(quickstart_runs()[1], batch_size, data);
    const double fit = kTrainingShare * 60 * plan.minutes / (dense + 2 * mixture);
    plan.batch_size = batch_size;
    plan.steps = std::max(static_cast<int64_t>(fit), kLeastSteps);
    return fmt::format(
        "a step of {} sequences takes {:.0f} ms dense and {:.0f} ms as a mixture: {} steps each fit into "
        "{:g} minutes",
        batch_size, 1e3 * dense, 1e3 * mixture, plan.steps, plan.minutes);
  };
  std::string decision = decide(kBatch);
  if (plan.steps >= kManySteps) decision = decide(kLargeBatch);
  events.note(decision);
}

}  // namespace gatewright::command

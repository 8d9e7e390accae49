#include <fmt/format.h>

#include <memory>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/recipe.h"
#include "gatewright/train/starting_model.h"
#include "gatewright/train/train.h"
#include "model_folder.h"
#include "recipes.h"
#include "tensor_verbs.h"
#include "watcher.h"

namespace gatewright::command {
namespace {

struct TrainArguments {
  std::string recipe, out, cache;
  std::vector<std::string> data, settings;
  bool dry_run = false, restart = false, json = false;
};

/// A file, or the name of a starting recipe (a folder may have that name, too).
Recipe recipe_of(const TrainArguments& a) {
  if (!std::filesystem::exists(a.recipe) || std::filesystem::is_directory(a.recipe)) {
    if (const StartingRecipe* starting = find_recipe(a.recipe))
      return make_recipe(starting->text, "recipe " + a.recipe, a.settings);
  }
  return load_recipe(a.recipe, a.settings);
}

std::vector<std::string> data_of(const TrainArguments& a, const Recipe& recipe) {
  if (!a.data.empty()) return a.data;
  if (recipe.data.paths.empty())
    fail_usage(
        "there is no text to train on: give --data PATHS (files, folders, JSON lines), or data.paths in the "
        "recipe");
  return recipe.data.paths;
}

void check_out(const std::string& out) {
  if (std::filesystem::exists(out) && !std::filesystem::is_directory(out))
    fail("{} is a file; --out must be a folder, or a path where one can be made", out);
}

void train(const TrainArguments& a) {
  const Recipe recipe = recipe_of(a);
  const std::vector<std::string> paths = data_of(a, recipe);
  check_out(a.out);
  const Corpus corpus =
      Corpus::read(as_paths(paths), {.validation_share = recipe.data.validation_share, .seed = recipe.seed});
  tell_corpus(corpus);
  if (a.dry_run) {
    const ParameterCounts counts = count_parameters(starting_model(recipe)->spec(recipe.model.vocab_size));
    note(fmt::format(
        "the recipe is sound: {} parameters, {} active, {} steps of {} tokens; nothing was trained",
        short_count(static_cast<double>(counts.total)), short_count(static_cast<double>(counts.active)),
        recipe.train.steps,
        recipe.train.accumulate * recipe.train.batch_size * recipe.train.sequence_length));
    return;
  }
  catch_interrupts();
  Watcher watcher(/*quiet=*/false);
  const TrainOutcome outcome =
      train_model({.recipe = recipe, .out = a.out, .cache = a.cache, .restart = a.restart}, corpus, watcher);
  watcher.clear();
  if (outcome.kind == TrainOutcome::Kind::kInterrupted)
    fail("stopped after step {} of {}; the same command goes on from there", outcome.steps,
         recipe.train.steps);
  const bool already_finished = outcome.kind == TrainOutcome::Kind::kAlreadyFinished;
  if (a.json) {
    OrderedJson json = {{"model", a.out}, {"steps", outcome.steps}, {"already_finished", already_finished}};
    if (!already_finished) {
      json["validation_bits_per_byte"] = outcome.validation_bits_per_byte;
      json["tokens_per_second"] = outcome.tokens_per_second;
    }
    return print(json.dump(2) + "\n");
  }
  if (already_finished) return;
  print(fmt::format("{}: {} steps, {:.4f} bits per byte on the validation text, {} tokens/s\n", a.out,
                    outcome.steps, outcome.validation_bits_per_byte, short_count(outcome.tokens_per_second)));
}

}  // namespace

void add_train(Options& verb) {
  const auto a = std::make_shared<TrainArguments>();
  verb.add("RECIPE", a->recipe, "a TOML file, - for standard input, or a name that `gatewright recipe` lists")
      .required();
  verb.add("--data", a->data, "files and folders with text; top folders are domains").several();
  verb.add("--out", a->out, "folder of the model").required();
  verb.add("--set", a->settings, "KEY=VALUE over the recipe, such as train.steps=200").repeated();
  verb.add("--cache", a->cache, "folder for the tokenised text, kept and found again by later trainings");
  verb.flag("--restart", a->restart, "throw away what is in the folder and begin anew");
  verb.flag("--dry-run", a->dry_run, "check everything and train nothing");
  verb.flag("--json", a->json, "print the result as JSON");
  add_threads(verb);
  verb.run([a] { train(*a); });
}

}  // namespace gatewright::command

#include "gatewright/train/recipe.h"

#include "gatewright/models/presets.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/optimizer.h"
#include "gatewright/train/recipe_init.h"
#include "gatewright/train/recipe_keys.h"
#include "gatewright/train/recipe_model.h"
#include "gatewright/train/recipe_pieces.h"
#include "gatewright/train/schedule.h"

namespace gatewright {
namespace {

class Builder {
 public:
  explicit Builder(RecipeProblems& problems) : problems_(problems) {}

  Recipe build(const RecipeTable& root) {
    static const std::vector<std::string> tables = {"model",     "experts", "routing", "balance",
                                                    "attention", "layers",  "train",   "data"};
    check_tables(root, "", tables, problems_);
    for (const auto& [name, list] : root.lists) {
      if (name != "layers")
        problems_.add(list.front().location, "[[{}]]: one table [{}] was expected", name, name);
    }
    Recipe recipe;
    const Given top = check_table(root, "", top_keys(), problems_);
    recipe.seed = static_cast<uint64_t>(whole(top, "seed"));
    read_train(table_of(root, "train"), recipe.train);
    read_model_or_change(root, recipe);
    check_steps(root, recipe);
    read_data(table_of(root, "data"), recipe.data);
    check_chunks(root, recipe);
    return recipe;
  }

 private:
  void read_model_or_change(const RecipeTable& root, Recipe& recipe) {
    const RecipeTable& train = table_of(root, "train");
    if (recipe.train.init.empty()) {
      recipe.model = read_model(root, problems_);
      if (!recipe.train.base.empty() && table_of(root, "data").value("tokenizer"))
        problems_.add(
            location_of(table_of(root, "data"), "tokenizer"),
            "data.tokenizer: the tokenizer is that of the model that train.base names; leave it out");
      return;
    }
    recipe.routing = read_routing_change(root, problems_);
    if (!recipe.train.base.empty())
      problems_.add(
          location_of(train, "base"),
          "train.base is for the model of a recipe, and train.init names the model of a file; leave "
          "one of them out");
  }

  /// Balance terms that cut sequences into chunks need whole ones.
  void check_chunks(const RecipeTable& root, const Recipe& recipe) {
    std::vector<const std::vector<Piece>*> all = {&recipe.routing.balance};
    for (const FeedForwardSpec& layer : recipe.model.layers) all.push_back(&layer.router.balance);
    if (recipe.model.selective_attention) all.push_back(&recipe.model.selective_attention->router.balance);
    for (const std::vector<Piece>* terms : all) {
      for (const Piece& term : *terms) {
        const auto chunk = term.values.all().find("chunk");
        if (chunk == term.values.all().end()) continue;
        const int64_t length = std::get<int64_t>(chunk->second);
        if (recipe.train.sequence_length % length == 0) continue;
        return problems_.add(location_of(table_of(root, "train"), "sequence_length"),
                             "[{}] chunk = {} must divide train.sequence_length = {}", term.name, length,
                             recipe.train.sequence_length);
      }
    }
  }

  void read_train(const RecipeTable& table, TrainOptions& train) {
    check_tables(table, "train", {}, problems_);
    const Given v = check_table(table, "train", with_pieces("train", table, train_keys()), problems_);
    train.steps = whole(v, "steps");
    train.batch_size = whole(v, "batch_size");
    train.sequence_length = whole(v, "sequence_length");
    train.accumulate = whole(v, "accumulate");
    train.init = text(v, "init");
    train.base = text(v, "base");
    train.parameters = text(v, "parameters");
    train.freeze = texts(v, "freeze");
    train.learning_rate = number(v, "learning_rate");
    train.schedule = piece_of(schedules(), text(v, "schedule"), v);
    train.objective = piece_of(objectives(), text(v, "objective"), v);
    train.optimizer = piece_of(optimizers(), text(v, "optimizer"), v);
    train.clip_norm = number(v, "clip_norm");
    train.log_every = whole(v, "log_every");
    train.evaluate_every = whole(v, "evaluate_every");
    train.evaluate_tokens = whole(v, "evaluate_tokens");
    train.last_evaluate_tokens = whole(v, "last_evaluate_tokens");
    train.checkpoint_every = whole(v, "checkpoint_every");
    train.spike_factor = number(v, "spike_factor");
    train.precision = text(v, "precision");
    train.device = text(v, "device");
  }

  /// What selectors need of the length of the training.
  void check_steps(const RecipeTable& root, const Recipe& recipe) {
    if (!problems_.empty()) return;
    std::vector<Piece> selectors;
    if (recipe.routing.selector) selectors.push_back(*recipe.routing.selector);
    for (const FeedForwardSpec& layer : recipe.model.layers) {
      if (layer.routed) selectors.push_back(layer.router.selector);
    }
    if (recipe.model.selective_attention)
      selectors.push_back(recipe.model.selective_attention->router.selector);
    for (const Piece& selector : selectors) {
      try {
        choice::selectors().at(selector.name).make(selector.values)->check_steps(recipe.train.steps);
      } catch (const UsageError& e) {
        problems_.add(location_of(table_of(root, "train"), "steps"), "{}", e.what());
      }
    }
  }

  void read_data(const RecipeTable& table, DataOptions& data) {
    check_tables(table, "data", {}, problems_);
    const Given v = check_table(table, "data", data_keys(), problems_);
    data.paths = texts(v, "paths");
    data.validation_share = number(v, "validation_share");
    data.tokenizer = text(v, "tokenizer");
  }

  RecipeProblems& problems_;
};

/// The tables that decide the weights: without where data and models lie and how often something is reported.
std::string deciding_settings(RecipeTable root) {
  for (const char* key : {"init", "base", "log_every", "evaluate_every", "evaluate_tokens",
                          "last_evaluate_tokens", "checkpoint_every", "spike_factor"})
    root.tables["train"].values.erase(key);
  root.tables["data"].values.erase("paths");
  root.tables["data"].values.erase("tokenizer");
  return to_json(root).dump();
}

Recipe build_recipe(RecipeTable given, const std::string& name, const std::vector<std::string>& settings,
                    RecipeProblems& problems) {
  for (const std::string& setting : settings) lay_over(given, parse_setting(setting, problems));
  RecipeTable root;
  if (const RecipeTable* model = given.table("model")) {
    const std::string preset = text_or(*model, "preset", "");
    if (const auto* entry = model_presets().find(preset)) {
      root = tables_of(entry->make(0), "preset " + preset);
    }
  }
  lay_over(root, given);
  Recipe recipe = Builder(problems).build(root);
  problems.throw_if_any(name);
  recipe.settings = deciding_settings(root);
  return recipe;
}

}  // namespace

Recipe make_recipe(std::string_view text, const std::string& name, const std::vector<std::string>& settings) {
  RecipeProblems problems(key_hint);
  return build_recipe(parse_recipe(text, name, problems), name, settings, problems);
}

OrderedJson preset_settings(const std::string& preset) {
  return to_json(tables_of(model_presets().at(preset).make(0), preset));
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  RecipeProblems problems(key_hint);
  return build_recipe(read_recipe_file(path, problems), path.string(), settings, problems);
}

}  // namespace gatewright

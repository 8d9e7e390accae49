// Recipes: a TOML file that says which model is trained how, checked completely before any work.
//
//   seed = 1
//   [model]          sizes, or preset = "mini"
//   [experts]        bank, num_experts and the bank's parameters; [experts.shared] puts shared experts around
//   it [routing]        scorer, selector and their parameters; [routing.capacity] and other decorators
//   [balance.NAME]   one table for each balance term
//   [attention]      the router over heads, with model.attention = "selective"
//   [[layers]]       at = [0, 1]: what is different in these layers
//   [train] [data]
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/models/configuration.h"
#include "gatewright/models/routing_change.h"
#include "gatewright/train/options.h"

namespace gatewright {

struct Recipe {
  uint64_t seed = 0;
  DecoderSpec model = {};      // has no layers with train.init, ...
  RoutingChange routing = {};  // ... whose model's routing this changes
  TrainOptions train = {};
  DataOptions data = {};
  /// All that decides the weights, as text: equal texts mean equal trainings (on the same data).
  std::string settings = {};
};

/// A recipe from its text; `settings` are "train.steps=200" and the like, laid over it. All problems are
/// reported at once in a UsageError, each with its place.
Recipe make_recipe(std::string_view text, const std::string& name,
                   const std::vector<std::string>& settings = {});
Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& settings = {});

/// What a model preset stands for, as the tables of a recipe.
OrderedJson preset_settings(const std::string& preset);
/// The tables of a recipe with the keys that each always has, for `gatewright explain`; `formula` says where
/// they stand.
const std::vector<Spec>& recipe_tables();

}  // namespace gatewright

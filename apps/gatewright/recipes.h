// The starting recipes, compiled in from recipes/*.toml.
#pragma once

#include <string_view>
#include <vector>

namespace gatewright::command {

struct StartingRecipe {
  std::string_view name;
  std::string_view text;
};
const std::vector<StartingRecipe>& starting_recipes();
/// Null when there is none of this name.
const StartingRecipe* find_recipe(std::string_view name);

}  // namespace gatewright::command

// Tables of a recipe that name registered pieces: a piece brings its own keys into the table, and another
// piece takes them away again.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gatewright/models/configuration.h"
#include "gatewright/train/recipe_table.h"

namespace gatewright {

/// The values of a table, complete: what is not given has its default.
using Given = std::map<std::string, Value>;

const std::string& text(const Given& values, const std::string& key);
int64_t whole(const Given& values, const std::string& key);
double number(const Given& values, const std::string& key);
bool flag(const Given& values, const std::string& key);
const std::vector<std::string>& texts(const Given& values, const std::string& key);

/// The text of a key; `otherwise` when it is not given or no text.
std::string text_or(const RecipeTable& table, const std::string& key, const std::string& otherwise);
/// A table of the recipe, or an empty one.
const RecipeTable& table_of(const RecipeTable& root, const std::string& name);
/// Where a key was given, or its table.
const std::string& location_of(const RecipeTable& table, const std::string& key);

/// Lays `over` onto `base`, key by key. When it puts another piece in place, the keys of the piece that was
/// there go with it. `name`: of the table, empty for a recipe's root.
void lay_over(RecipeTable& base, const RecipeTable& over, const std::string& name = "");

/// The keys of a table of this name, with those of the pieces that it names.
std::vector<Parameter> with_pieces(const std::string& table_name, const RecipeTable& table,
                                   std::vector<Parameter> keys);

/// A model's sizes as the tables of a recipe, which all stand at `location`.
RecipeTable tables_of(const DecoderSpec& spec, const std::string& location);

/// A piece with those of the values that are its own; nothing when there is none of the name, which is
/// reported elsewhere.
template <typename Factory>
Piece piece_of(const Registry<Factory>& registry, const std::string& name, const Given& values) {
  const auto* entry = registry.find(name);
  if (!entry) return {};
  Given own;
  for (const Parameter& p : entry->spec.parameters) {
    if (const auto it = values.find(p.name); it != values.end()) own[p.name] = it->second;
  }
  return {.name = name, .values = Values(entry->spec.parameters, own, name)};
}

/// The pieces of a kind that have a table of their own inside `table`, in the order of the registry.
template <typename Factory>
void add_pieces(std::vector<Piece>& pieces, const Registry<Factory>& registry, const RecipeTable& table,
                const std::string& path, RecipeProblems& problems) {
  for (const auto& entry : registry.entries()) {
    if (const RecipeTable* own = table.table(entry.spec.name))
      pieces.push_back(
          piece_of(registry, entry.spec.name,
                   check_table(*own, path + "." + entry.spec.name, entry.spec.parameters, problems)));
  }
}

/// Of scorers and selectors.
std::vector<std::string> decorator_names();
std::vector<Piece> decorators_of(const RecipeTable& routing, const std::string& path,
                                 RecipeProblems& problems);
/// The terms of [balance.NAME].
std::vector<Piece> balance_of(const RecipeTable& balance, const std::string& path, RecipeProblems& problems);

}  // namespace gatewright

#include "gatewright/train/recipe_init.h"

#include <algorithm>

#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/train/recipe_keys.h"
#include "gatewright/train/recipe_pieces.h"

namespace gatewright {
namespace {

constexpr const char* kDecides = "is decided by the model that train.init names; leave it out";

void refuse_key(const RecipeTable& root, const char* table, const char* key, RecipeProblems& problems) {
  if (const RecipeEntry* entry = table_of(root, table).value(key))
    problems.add(entry->location, "{}.{} {}", table, key, kDecides);
}

/// Every key of the table and of those inside it.
void refuse_table(const RecipeTable& table, const std::string& path, RecipeProblems& problems) {
  if (table.values.empty() && table.tables.empty()) problems.add(table.location, "[{}] {}", path, kDecides);
  for (const auto& [key, entry] : table.values) problems.add(entry.location, "{}.{} {}", path, key, kDecides);
  for (const auto& [name, inner] : table.tables) refuse_table(inner, path + "." + name, problems);
}

/// The keys of [routing] that choose experts from the scores. An unknown selector is the problem of its name.
std::vector<Parameter> selector_keys(const RecipeTable& routing) {
  std::vector<Parameter> keys = routing_keys();
  std::erase_if(keys, [](const Parameter& key) { return key.name != "selector"; });
  const auto* entry = choice::selectors().find(text_or(routing, "selector", "top_k"));
  if (entry) keys.insert(keys.end(), entry->spec.parameters.begin(), entry->spec.parameters.end());
  return keys;
}

/// [routing] without the keys that it has in other recipes and that the file decides here.
RecipeTable without_decided(const RecipeTable& routing, const std::vector<Parameter>& allowed,
                            RecipeProblems& problems) {
  const std::vector<Parameter> elsewhere = with_pieces("routing", routing, routing_keys());
  RecipeTable left = routing;
  for (const auto& [key, entry] : routing.values) {
    if (has_key(allowed, key) || !has_key(elsewhere, key)) continue;
    problems.add(entry.location, "routing.{} {}", key, kDecides);
    left.values.erase(key);
  }
  return left;
}

void read_selector(const RecipeTable& routing, RoutingChange& change, RecipeProblems& problems) {
  const std::vector<Parameter> allowed = selector_keys(routing);
  const RecipeTable left = without_decided(routing, allowed, problems);
  const Given values = check_table(left, "routing", allowed, problems);
  if (left.value("top_k") && values.contains("top_k")) change.top_k = whole(values, "top_k");
  if (left.value("selector"))
    change.selector = piece_of(choice::selectors(), text(values, "selector"), values);
}

}  // namespace

RoutingChange read_routing_change(const RecipeTable& root, RecipeProblems& problems) {
  for (const char* name : {"model", "experts", "attention"}) {
    if (const RecipeTable* table = root.table(name)) refuse_table(*table, name, problems);
  }
  if (const auto layers = root.lists.find("layers"); layers != root.lists.end()) {
    for (const RecipeTable& own : layers->second) problems.add(own.location, "[[layers]] {}", kDecides);
  }
  refuse_key(root, "data", "tokenizer", problems);
  RoutingChange change;
  const RecipeTable &routing = table_of(root, "routing"), &balance = table_of(root, "balance");
  change.location = root.table("routing") ? routing.location : balance.location;
  check_tables(routing, "routing", decorator_names(), problems);
  read_selector(routing, change, problems);
  change.decorators = decorators_of(routing, "routing", problems);
  change.balance = balance_of(balance, "balance", problems);
  return change;
}

}  // namespace gatewright

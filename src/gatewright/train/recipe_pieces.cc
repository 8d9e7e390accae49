#include "gatewright/train/recipe_pieces.h"

#include <algorithm>

#include "gatewright/experts/registry.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/optimizer.h"
#include "gatewright/train/recipe_keys.h"
#include "gatewright/train/schedule.h"

namespace gatewright {
namespace {

using Parameters = std::vector<Parameter>;

/// Of a piece that does not exist: those of all its kind, so that a wrong name is one problem and not
/// several.
template <typename Factory>
Parameters parameters_of(const Registry<Factory>& registry, const std::string& name) {
  if (const auto* entry = registry.find(name)) return entry->spec.parameters;
  Parameters all;
  for (const auto& entry : registry.entries()) {
    for (const Parameter& p : entry.spec.parameters) {
      if (!has_key(all, p.name)) all.push_back(p);
    }
  }
  return all;
}

/// The key of a table that names a piece, and the parameters that piece brings into the table.
struct PieceKey {
  const char* table;
  const char* key;
  Parameters (*keys)();  // of the table itself, with the default piece
  Parameters (*parameters)(const std::string& name);
};

const PieceKey kPieceKeys[] = {
    {"experts", "bank", experts_keys, [](const std::string& n) { return parameters_of(expert_banks(), n); }},
    {"routing", "scorer", routing_keys, [](const std::string& n) { return parameters_of(scorers(), n); }},
    {"routing", "selector", routing_keys,
     [](const std::string& n) { return parameters_of(choice::selectors(), n); }},
    {"attention", "scorer", attention_keys, [](const std::string& n) { return parameters_of(scorers(), n); }},
    {"attention", "selector", attention_keys,
     [](const std::string& n) { return parameters_of(choice::selectors(), n); }},
    {"train", "schedule", train_keys, [](const std::string& n) { return parameters_of(schedules(), n); }},
    {"train", "objective", train_keys, [](const std::string& n) { return parameters_of(objectives(), n); }},
    {"train", "optimizer", train_keys, [](const std::string& n) { return parameters_of(optimizers(), n); }},
};

std::string default_text(const Parameters& parameters, const std::string& name) {
  return std::get<std::string>(std::ranges::find(parameters, name, &Parameter::name)->default_value);
}

/// When `over` puts another piece in place, the parameters of the piece that was there go with it.
void drop_replaced_pieces(RecipeTable& base, const RecipeTable& over, const std::string& table_name) {
  for (const PieceKey& piece : kPieceKeys) {
    if (table_name != piece.table || !over.value(piece.key)) continue;
    const std::string before = text_or(base, piece.key, default_text(piece.keys(), piece.key)),
                      after = text_or(over, piece.key, "");
    if (before == after) continue;
    for (const Parameter& p : piece.parameters(before)) {
      if (!has_key(piece.parameters(after), p.name)) base.values.erase(p.name);
    }
  }
}

RecipeTable piece_table(const Piece& piece, const char* name_key, const std::string& location) {
  RecipeTable table{.location = location};
  if (*name_key) table.values[name_key] = {piece.name, location};
  for (const auto& [key, value] : piece.values.all()) table.values[key] = {value, location};
  return table;
}

}  // namespace

const std::string& text(const Given& values, const std::string& key) {
  return std::get<std::string>(values.at(key));
}
int64_t whole(const Given& values, const std::string& key) { return std::get<int64_t>(values.at(key)); }
double number(const Given& values, const std::string& key) { return std::get<double>(values.at(key)); }
bool flag(const Given& values, const std::string& key) { return std::get<bool>(values.at(key)); }
const std::vector<std::string>& texts(const Given& values, const std::string& key) {
  return std::get<std::vector<std::string>>(values.at(key));
}

std::string text_or(const RecipeTable& table, const std::string& key, const std::string& otherwise) {
  const RecipeEntry* entry = table.value(key);
  const auto* text = entry ? std::get_if<std::string>(&entry->value) : nullptr;
  return text ? *text : otherwise;
}

const RecipeTable& table_of(const RecipeTable& root, const std::string& name) {
  static const RecipeTable none;
  const RecipeTable* table = root.table(name);
  return table ? *table : none;
}

const std::string& location_of(const RecipeTable& table, const std::string& key) {
  const RecipeEntry* entry = table.value(key);
  return entry ? entry->location : table.location;
}

void lay_over(RecipeTable& base, const RecipeTable& over, const std::string& name) {
  drop_replaced_pieces(base, over, name);
  if (!over.location.empty()) base.location = over.location;
  for (const auto& [key, entry] : over.values) base.values[key] = entry;
  for (const auto& [key, list] : over.lists) base.lists[key] = list;
  for (const auto& [key, inner] : over.tables) lay_over(base.tables[key], inner, key);
}

Parameters with_pieces(const std::string& table_name, const RecipeTable& table, Parameters keys) {
  for (const PieceKey& piece : kPieceKeys) {
    if (table_name != piece.table) continue;
    const Parameters own = piece.parameters(text_or(table, piece.key, default_text(keys, piece.key)));
    keys.insert(keys.end(), own.begin(), own.end());
  }
  return keys;
}

RecipeTable tables_of(const DecoderSpec& spec, const std::string& location) {
  RecipeTable root{.location = location};
  RecipeTable& model = root.tables["model"];
  const auto put = [&](const char* key, Value value) { model.values[key] = {std::move(value), location}; };
  put("vocab_size", spec.vocab_size);
  put("hidden_size", spec.hidden_size);
  put("num_layers", spec.num_layers());
  put("num_heads", spec.num_heads);
  put("num_kv_heads", spec.num_kv_heads);
  put("head_dim", spec.head_dim);
  put("qk_norm", std::string(spec.query_key_norm == QueryKeyNorm::kNone   ? "none"
                             : spec.query_key_norm == QueryKeyNorm::kHead ? "head"
                                                                          : "projection"));
  put("rope_theta", spec.rotary.theta);
  put("tie_word_embeddings", spec.tie_word_embeddings);
  const FeedForwardSpec& layer = spec.layers.front();
  if (!layer.routed) {
    put("dense_width", layer.dense_width);
    return root;
  }
  root.tables["experts"] = piece_table(layer.experts, "bank", location);
  root.tables["experts"].values["num_experts"] = {layer.num_experts, location};
  RecipeTable& routing = root.tables["routing"] = piece_table(layer.router.scorer, "scorer", location);
  lay_over(routing, piece_table(layer.router.selector, "selector", location));
  routing.values["weights"] = {choice::weighting_names()[static_cast<size_t>(layer.router.weights.weighting)],
                               location};
  for (const Piece& term : layer.router.balance)
    root.tables["balance"].tables[term.name] = piece_table(term, "", location);
  return root;
}

std::vector<std::string> decorator_names() {
  std::vector<std::string> names = scorer_decorators().names();
  for (const std::string& name : choice::selector_decorators().names()) names.push_back(name);
  return names;
}

std::vector<Piece> decorators_of(const RecipeTable& routing, const std::string& path,
                                 RecipeProblems& problems) {
  std::vector<Piece> decorators;
  add_pieces(decorators, scorer_decorators(), routing, path, problems);
  add_pieces(decorators, choice::selector_decorators(), routing, path, problems);
  return decorators;
}

std::vector<Piece> balance_of(const RecipeTable& balance, const std::string& path, RecipeProblems& problems) {
  check_tables(balance, path, balance_terms().names(), problems);
  check_table(balance, path, {}, problems);
  std::vector<Piece> terms;
  add_pieces(terms, balance_terms(), balance, path, problems);
  return terms;
}

}  // namespace gatewright

#include "gatewright/train/recipe.h"

#include <algorithm>

#include "gatewright/experts/registry.h"
#include "gatewright/models/presets.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/recipe_keys.h"
#include "gatewright/train/recipe_table.h"
#include "gatewright/train/schedule.h"

namespace gatewright {
namespace {

using Names = std::vector<std::string>;
using Parameters = std::vector<Parameter>;
using Given = std::map<std::string, Value>;

bool has(const Parameters& parameters, const std::string& name) {
  return std::ranges::find(parameters, name, &Parameter::name) != parameters.end();
}

/// Of a piece that does not exist: those of all its kind, so that a wrong name is one problem and not
/// several.
template <typename Factory>
Parameters parameters_of(const Registry<Factory>& registry, const std::string& name) {
  if (const auto* entry = registry.find(name)) return entry->spec.parameters;
  Parameters all;
  for (const auto& entry : registry.entries()) {
    for (const Parameter& p : entry.spec.parameters) {
      if (!has(all, p.name)) all.push_back(p);
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
};

std::string text_or(const RecipeTable& table, const std::string& key, const std::string& otherwise) {
  const RecipeEntry* entry = table.value(key);
  const auto* text = entry ? std::get_if<std::string>(&entry->value) : nullptr;
  return text ? *text : otherwise;
}

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
      if (!has(piece.parameters(after), p.name)) base.values.erase(p.name);
    }
  }
}

void lay_over(RecipeTable& base, const RecipeTable& over, const std::string& name = "") {
  drop_replaced_pieces(base, over, name);
  if (!over.location.empty()) base.location = over.location;
  for (const auto& [key, entry] : over.values) base.values[key] = entry;
  for (const auto& [key, list] : over.lists) base.lists[key] = list;
  for (const auto& [key, inner] : over.tables) lay_over(base.tables[key], inner, key);
}

// --- a preset as tables ---

RecipeTable piece_table(const Piece& piece, const char* name_key, const std::string& location) {
  RecipeTable table{.location = location};
  if (*name_key) table.values[name_key] = {piece.name, location};
  for (const auto& [key, value] : piece.values.all()) table.values[key] = {value, location};
  return table;
}

RecipeTable preset_tables(const DecoderSpec& spec, const std::string& location) {
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

// --- from tables to plain values ---

Parameters with_pieces(const std::string& table_name, const RecipeTable& table, Parameters keys) {
  for (const PieceKey& piece : kPieceKeys) {
    if (table_name != piece.table) continue;
    const Parameters own = piece.parameters(text_or(table, piece.key, default_text(keys, piece.key)));
    keys.insert(keys.end(), own.begin(), own.end());
  }
  return keys;
}

template <typename Factory>
Piece piece_of(const Registry<Factory>& registry, const std::string& name, const Given& values) {
  const auto* entry = registry.find(name);
  if (!entry) return {};  // reported already
  Given own;
  for (const Parameter& p : entry->spec.parameters) {
    if (const auto it = values.find(p.name); it != values.end()) own[p.name] = it->second;
  }
  return {.name = name, .values = Values(entry->spec.parameters, own, name)};
}

const std::string& text(const Given& values, const std::string& key) {
  return std::get<std::string>(values.at(key));
}
int64_t whole(const Given& values, const std::string& key) { return std::get<int64_t>(values.at(key)); }
double number(const Given& values, const std::string& key) { return std::get<double>(values.at(key)); }

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

Names joined(std::initializer_list<Names> lists) {
  Names all;
  for (const Names& names : lists) all.insert(all.end(), names.begin(), names.end());
  return all;
}

class Builder {
 public:
  explicit Builder(RecipeProblems& problems) : problems_(problems) {}

  Recipe build(const RecipeTable& root) {
    static const Names tables = {"model",     "experts", "routing", "balance",
                                 "attention", "layers",  "train",   "data"};
    check_tables(root, "", tables, problems_);
    for (const auto& [name, list] : root.lists) {
      if (name != "layers")
        problems_.add(list.front().location, "[[{}]]: one table [{}] was expected", name, name);
    }
    Recipe recipe;
    const Given top = check_table(root, "", top_keys(), problems_);
    recipe.seed = static_cast<uint64_t>(whole(top, "seed"));
    read_model(root, recipe.model);
    read_train(table_of(root, "train"), recipe.train);
    check_steps(root, recipe);
    read_data(table_of(root, "data"), recipe.data);
    check_chunks(root, recipe);
    return recipe;
  }

 private:
  /// Balance terms that cut sequences into chunks need whole ones.
  void check_chunks(const RecipeTable& root, const Recipe& recipe) {
    std::vector<const RouterSpec*> routers;
    for (const FeedForwardSpec& layer : recipe.model.layers) routers.push_back(&layer.router);
    if (recipe.model.selective_attention) routers.push_back(&recipe.model.selective_attention->router);
    for (const RouterSpec* router : routers) {
      for (const Piece& term : router->balance) {
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

  static const RecipeTable& table_of(const RecipeTable& root, const std::string& name) {
    static const RecipeTable none;
    const RecipeTable* table = root.table(name);
    return table ? *table : none;
  }

  /// Where a key was given, or its table.
  static const std::string& location_of(const RecipeTable& table, const std::string& key) {
    const RecipeEntry* entry = table.value(key);
    return entry ? entry->location : table.location;
  }

  /// Where the key stands that a problem of the whole model names, else [model].
  static std::string place_of(const RecipeTable& root, std::string_view problem) {
    const bool of_heads = problem.find("attention: ") != std::string_view::npos;
    for (const char* name : {of_heads ? "attention" : "routing", "experts", "model"}) {
      for (const auto& [key, entry] : table_of(root, name).values) {
        if (problem.find(key + " =") != std::string_view::npos) return entry.location;
      }
    }
    return table_of(root, "model").location;
  }

  Given check(const RecipeTable& root, const std::string& path, const std::string& name, Parameters keys,
              const Names& inner) {
    const RecipeTable& table = table_of(root, name);
    check_tables(table, path + name, inner, problems_);
    return check_table(table, path + name, with_pieces(name, table, std::move(keys)), problems_);
  }

  void read_model(const RecipeTable& root, DecoderSpec& model) {
    const size_t before = problems_.count();
    const Given v = check(root, "", "model", model_keys(), {});
    model.vocab_size = whole(v, "vocab_size");
    model.hidden_size = whole(v, "hidden_size");
    model.num_heads = whole(v, "num_heads");
    model.num_kv_heads = whole(v, "num_kv_heads") ? whole(v, "num_kv_heads") : model.num_heads;
    model.head_dim = whole(v, "head_dim") ? whole(v, "head_dim") : model.hidden_size / model.num_heads;
    if (!whole(v, "head_dim") && model.hidden_size % model.num_heads != 0)
      problems_.add(
          location_of(table_of(root, "model"), "num_heads"),
          "model.hidden_size = {} is no multiple of model.num_heads = {}; model.head_dim would allow it",
          model.hidden_size, model.num_heads);
    model.max_positions = whole(v, "max_position_embeddings");
    model.sliding_window = whole(v, "sliding_window");
    model.rotary.theta = number(v, "rope_theta");
    model.rms_norm_eps = number(v, "rms_norm_eps");
    model.initializer_range = number(v, "init");
    const std::string& norm = text(v, "qk_norm");
    model.query_key_norm = norm == "none"   ? QueryKeyNorm::kNone
                           : norm == "head" ? QueryKeyNorm::kHead
                                            : QueryKeyNorm::kProjection;
    model.tie_word_embeddings = std::get<bool>(v.at("tie_word_embeddings"));
    read_layers(root, v, model);
    read_attention(root, v, model);
    try {
      if (problems_.count() == before) validate(model);
    } catch (const UsageError& e) {
      problems_.add(place_of(root, e.what()), "{}", e.what());
    }
  }

  /// Every which layer routes, and the width of the dense ones between them.
  void check_alternation(const RecipeTable& root, const Given& v, bool routed) {
    const int64_t every = whole(v, "routed_every"), first = whole(v, "routed_first");
    const std::string& location =
        location_of(table_of(root, "model"), every > 1 ? "routed_every" : "routed_first");
    if (every > 1 && !routed)
      problems_.add(location, "model.routed_every = {} is for models with [experts] and [routing]", every);
    if (every > 1 && routed && whole(v, "dense_width") == 0)
      problems_.add(
          location,
          "model.routed_every = {} makes the layers between dense; model.dense_width must give their width",
          every);
    if (first >= every)
      problems_.add(location, "model.routed_first = {} must be below model.routed_every = {}", first, every);
  }

  void read_layers(const RecipeTable& root, const Given& v, DecoderSpec& model) {
    const bool routed = root.table("experts") || root.table("routing");
    const int64_t dense_width = whole(v, "dense_width"), every = whole(v, "routed_every");
    check_alternation(root, v, routed);
    if (routed && dense_width > 0 && every == 1)
      problems_.add(
          root.tables.at("model").value("dense_width")->location,
          "model.dense_width and [{}] contradict each other; dense layers beside routed ones go under "
          "[[layers]], or between them with model.routed_every",
          root.table("experts") ? "experts" : "routing");
    if (!routed && dense_width == 0)
      problems_.add(root.table("model") ? root.tables.at("model").location : root.location,
                    "the recipe says neither model.dense_width (a dense model) nor [experts] and [routing]");
    if (!routed && root.table("balance"))
      problems_.add(root.tables.at("balance").location,
                    "[balance] is for routed layers, and this model has none");
    const FeedForwardSpec dense{.routed = false, .dense_width = dense_width};
    model.layers.assign(static_cast<size_t>(whole(v, "num_layers")), routed ? read_routed(root, "") : dense);
    for (int64_t i = 0; routed && i < model.num_layers(); ++i) {
      if (i % every != whole(v, "routed_first")) model.layers[static_cast<size_t>(i)] = dense;
    }
    const auto overrides = root.lists.find("layers");
    if (overrides == root.lists.end()) return;
    for (const RecipeTable& own : overrides->second) override_layers(root, own, model.layers);
  }

  void override_layers(const RecipeTable& root, const RecipeTable& own,
                       std::vector<FeedForwardSpec>& layers) {
    static const Names inner = {"experts", "routing", "balance"};
    check_tables(own, "layers", inner, problems_);
    const Given v = check_table(own, "layers", layers_keys(std::ssize(layers)), problems_);
    FeedForwardSpec layer{.routed = false, .dense_width = whole(v, "dense_width")};
    if (layer.dense_width == 0) {
      RecipeTable merged = root;
      RecipeTable changes = own;
      changes.values.clear();
      lay_over(merged, changes);
      layer = read_routed(merged, "layers.");
    } else if (!own.tables.empty()) {
      problems_.add(own.location, "layers.dense_width makes the layers dense, and [layers.{}] routes them",
                    own.tables.begin()->first);
    }
    for (int64_t at : std::get<std::vector<int64_t>>(v.at("at"))) layers[static_cast<size_t>(at)] = layer;
  }

  FeedForwardSpec read_routed(const RecipeTable& root, const std::string& path) {
    FeedForwardSpec layer{.routed = true};
    const Given experts = check(root, path, "experts", experts_keys(), expert_bank_decorators().names());
    layer.num_experts = whole(experts, "num_experts");
    layer.experts = piece_of(expert_banks(), text(experts, "bank"), experts);
    add_pieces(layer.expert_decorators, expert_bank_decorators(), table_of(root, "experts"), path + "experts",
               problems_);
    const Given routing = check(root, path, "routing", routing_keys(),
                                joined({scorer_decorators().names(), choice::selector_decorators().names()}));
    layer.router = router_of(routing, table_of(root, "routing"), path + "routing");
    read_balance(table_of(root, "balance"), path + "balance", layer.router);
    const std::string& residual = text(routing, "residual");
    layer.rounds.rounds = whole(routing, "rounds");
    layer.rounds.residual =
        residual.empty() ? default_residual(layer.rounds.rounds) : parse_round_residual(residual);
    layer.rounds.independent_gating = std::get<bool>(routing.at("independent_gating"));
    return layer;
  }

  /// Scorer, selector and what stands around them, from the values of a table.
  RouterSpec router_of(const Given& values, const RecipeTable& own, const std::string& path) {
    RouterSpec router{.scorer = piece_of(scorers(), text(values, "scorer"), values),
                      .selector = piece_of(choice::selectors(), text(values, "selector"), values),
                      .activation = choice::parse_activation(text(values, "activation")),
                      .weights = {.weighting = choice::parse_weighting(text(values, "weights")),
                                  .scale = number(values, "scale"),
                                  .straight_through = text(values, "gate_gradient") == "straight_through"}};
    add_pieces(router.decorators, scorer_decorators(), own, path, problems_);
    add_pieces(router.decorators, choice::selector_decorators(), own, path, problems_);
    return router;
  }

  void read_balance(const RecipeTable& table, const std::string& path, RouterSpec& router) {
    check_tables(table, path, balance_terms().names(), problems_);
    check_table(table, path, {}, problems_);
    add_pieces(router.balance, balance_terms(), table, path, problems_);
  }

  /// What [attention] says when it says nothing: the gate of Union of Experts.
  static RecipeTable default_attention(int64_t num_heads) {
    RecipeTable table;
    table.values = {{"scorer", {std::string("linear"), ""}},
                    {"bias", {true, ""}},
                    {"init_rule", {std::string("kaiming_uniform"), ""}},
                    {"selector", {std::string("top_k"), ""}},
                    {"top_k", {std::max<int64_t>(1, num_heads / 2), ""}}};
    return table;
  }

  void read_attention(const RecipeTable& root, const Given& v, DecoderSpec& model) {
    if (text(v, "attention") != "selective") {
      if (root.table("attention"))
        problems_.add(
            root.tables.at("attention").location,
            "[attention] is for model.attention = \"selective\", and it is full; set it, or leave the "
            "table out");
      return;
    }
    RecipeTable merged = root;
    merged.tables["attention"] = default_attention(model.num_heads);
    lay_over(merged.tables["attention"], table_of(root, "attention"), "attention");
    const Given attention =
        check(merged, "", "attention", attention_keys(),
              joined({scorer_decorators().names(), choice::selector_decorators().names(), {"balance"}}));
    const RecipeTable& own = merged.tables.at("attention");
    SelectiveAttentionSpec spec{.router = router_of(attention, own, "attention"),
                                .subsequence_positions = text(attention, "positions") == "subsequence",
                                .init = number(attention, "init_heads")};
    read_balance(table_of(own, "balance"), "attention.balance", spec.router);
    model.selective_attention = std::move(spec);
  }

  void read_train(const RecipeTable& table, TrainOptions& train) {
    check_tables(table, "train", {}, problems_);
    const Given v = check_table(table, "train", with_pieces("train", table, train_keys()), problems_);
    train.steps = whole(v, "steps");
    train.batch_size = whole(v, "batch_size");
    train.sequence_length = whole(v, "sequence_length");
    train.accumulate = whole(v, "accumulate");
    train.learning_rate = number(v, "learning_rate");
    train.schedule = piece_of(schedules(), text(v, "schedule"), v);
    train.objective = piece_of(objectives(), text(v, "objective"), v);
    train.optimizer = {.beta1 = number(v, "beta1"),
                       .beta2 = number(v, "beta2"),
                       .epsilon = number(v, "epsilon"),
                       .weight_decay = number(v, "weight_decay")};
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
    data.paths = std::get<std::vector<std::string>>(v.at("paths"));
    data.validation_share = number(v, "validation_share");
    data.tokenizer = text(v, "tokenizer");
  }

  RecipeProblems& problems_;
};

/// The tables that decide the weights: without where the data lies and how often something is reported.
std::string deciding_settings(RecipeTable root) {
  for (const char* key : {"log_every", "evaluate_every", "evaluate_tokens", "last_evaluate_tokens",
                          "checkpoint_every", "spike_factor"})
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
      root = preset_tables(entry->make(0), "preset " + preset);
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
  return to_json(preset_tables(model_presets().at(preset).make(0), preset));
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  RecipeProblems problems(key_hint);
  return build_recipe(read_recipe_file(path, problems), path.string(), settings, problems);
}

}  // namespace gatewright

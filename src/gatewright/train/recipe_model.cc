#include "gatewright/train/recipe_model.h"

#include <algorithm>

#include "gatewright/experts/registry.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/train/recipe_keys.h"
#include "gatewright/train/recipe_pieces.h"

namespace gatewright {
namespace {

using Names = std::vector<std::string>;
using Parameters = std::vector<Parameter>;

class ModelReader {
 public:
  explicit ModelReader(RecipeProblems& problems) : problems_(problems) {}

  DecoderSpec read(const RecipeTable& root) {
    DecoderSpec model;
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
    model.tie_word_embeddings = flag(v, "tie_word_embeddings");
    read_layers(root, v, model);
    read_attention(root, v, model);
    try {
      if (problems_.count() == before) validate(model);
    } catch (const UsageError& e) {
      problems_.add(place_of(root, e.what()), "{}", e.what());
    }
    return model;
  }

 private:
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
    const Given routing = check(root, path, "routing", routing_keys(), decorator_names());
    layer.router = router_of(routing, table_of(root, "routing"), path + "routing");
    layer.router.balance = balance_of(table_of(root, "balance"), path + "balance", problems_);
    const std::string& residual = text(routing, "residual");
    layer.rounds.rounds = whole(routing, "rounds");
    layer.rounds.residual =
        residual.empty() ? default_residual(layer.rounds.rounds) : parse_round_residual(residual);
    layer.rounds.independent_gating = flag(routing, "independent_gating");
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
    router.decorators = decorators_of(own, path, problems_);
    return router;
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
    Names names = decorator_names();
    names.emplace_back("balance");
    const Given attention = check(merged, "", "attention", attention_keys(), names);
    const RecipeTable& own = merged.tables.at("attention");
    SelectiveAttentionSpec spec{.router = router_of(attention, own, "attention"),
                                .subsequence_positions = text(attention, "positions") == "subsequence",
                                .init = number(attention, "init_heads")};
    spec.router.balance = balance_of(table_of(own, "balance"), "attention.balance", problems_);
    model.selective_attention = std::move(spec);
  }

  RecipeProblems& problems_;
};

}  // namespace

DecoderSpec read_model(const RecipeTable& root, RecipeProblems& problems) {
  return ModelReader(problems).read(root);
}

}  // namespace gatewright

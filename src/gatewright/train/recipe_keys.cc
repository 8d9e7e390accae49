#include "gatewright/train/recipe_keys.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "gatewright/experts/registry.h"
#include "gatewright/models/presets.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/choice/weights.h"
#include "gatewright/routing/rounds.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/optimizer.h"
#include "gatewright/train/recipe.h"
#include "gatewright/train/schedule.h"

namespace gatewright {
namespace {

constexpr double kLargest = 1 << 24;

Parameter whole_key(std::string name, std::string help, int64_t value, double min, double max = kLargest) {
  return {.name = std::move(name), .help = std::move(help), .default_value = value, .min = min, .max = max};
}

Parameter number_key(std::string name, std::string help, double value, double min, double max,
                     bool min_open = false, bool max_open = false) {
  return {.name = std::move(name),
          .help = std::move(help),
          .default_value = value,
          .min = min,
          .max = max,
          .min_open = min_open,
          .max_open = max_open};
}

Parameter one_of(std::string name, std::string help, std::string value, std::vector<std::string> choices) {
  return {.name = std::move(name),
          .help = std::move(help),
          .default_value = std::move(value),
          .choices = std::move(choices)};
}

Parameter gate_gradient() {
  return {
      .name = "gate_gradient",
      .help = "of weights = \"one\": none, or straight_through: the gate learns, outputs stay as they are",
      .default_value = std::string("none"),
      .choices = {"none", "straight_through"}};
}

Parameter flag_key(std::string name, std::string help, bool value) {
  return {.name = std::move(name), .help = std::move(help), .default_value = value};
}

}  // namespace

std::vector<Parameter> top_keys() { return {whole_key("seed", "of every random draw", 0, 0, 9e15)}; }

std::vector<Parameter> model_keys() {
  return {
      one_of("preset", "sizes to start from; every other key overrides its own", "", model_presets().names()),
      whole_key("vocab_size", "tokens in the vocabulary of the tokenizer that is trained", 4096, 257,
                1 << 20),
      whole_key("hidden_size", "width of the residual stream", 256, 2),
      whole_key("num_layers", "layers", 6, 1, 1024),
      whole_key("num_heads", "attention heads", 8, 1, 65536),
      whole_key("num_kv_heads", "heads of keys and values; 0: as many as num_heads", 0, 0, 65536),
      whole_key("head_dim", "width of a head; 0: hidden_size / num_heads", 0, 0, 4096),
      whole_key("dense_width", "width of the SwiGLU feed-forward of layers without experts", 0, 0),
      whole_key("routed_every", "of so many layers in a row one routes, the others are dense of dense_width",
                1, 1, 1024),
      whole_key("routed_first", "the first layer that routes; below routed_every", 0, 0, 1023),
      one_of("attention", "full, or selective: a router in [attention] gives each token its heads", "full",
             {"full", "selective"}),
      one_of("qk_norm", "where queries and keys are normalised", "projection",
             {"none", "head", "projection"}),
      whole_key("sliding_window", "positions a token looks back, itself included; 0: all", 0, 0),
      flag_key("tie_word_embeddings", "use the embedding as the output head", false),
      whole_key("max_position_embeddings", "longest sequence, recorded in config.json", 4096, 1, 1 << 28),
      number_key("rope_theta", "base of the rotary embedding", 10000, 1, 1e12),
      number_key("rms_norm_eps", "added to the mean square before the root", 1e-5, 0, 1, true),
      number_key("init", "standard deviation of the initial weights", 0.02, 0, 10, true)};
}

std::vector<Parameter> experts_keys() {
  return {one_of("bank", "what each expert computes", "swiglu", expert_banks().names()),
          whole_key("num_experts", "experts in each routed layer", 8, 1, 65536)};
}

std::vector<Parameter> attention_keys() {
  return {
      one_of("scorer", "how logits arise; linear has bias = true and init_rule = \"kaiming_uniform\" here",
             "linear", scorers().names()),
      one_of("selector", "how heads are chosen from them; top_k is half of the heads here", "top_k",
             choice::selectors().names()),
      one_of("activation", "from logits to probabilities", "softmax", choice::activation_names()),
      one_of("weights", "weights of the chosen heads", "one", choice::weighting_names()),
      gate_gradient(),
      number_key("scale", "factor of all weights", 1.0, -1e6, 1e6),
      one_of("positions", "rotary positions in the document, or within a head's own tokens", "original",
             {"original", "subsequence"}),
      number_key("init_heads", "standard deviation of the heads' initial weights; 0: Xavier's for one head",
                 0, 0, 10)};
}

std::vector<Parameter> routing_keys() {
  return {
      one_of("scorer", "how logits arise", "linear", scorers().names()),
      one_of("selector", "how experts are chosen from them", "top_k", choice::selectors().names()),
      one_of("activation", "from logits to probabilities", "softmax", choice::activation_names()),
      one_of("weights", "weights of the chosen experts", "as_is", choice::weighting_names()),
      gate_gradient(),
      number_key("scale", "factor of all weights", 1.0, -1e6, 1e6),
      whole_key("rounds", "how often in a row a layer routes, each round reading what the one before made", 1,
                1, kMostRounds),
      one_of("residual", "what several rounds hand on; when not given, inner, and inner_stream for one round",
             "", round_residual_names()),
      flag_key("independent_gating", "a router of its own for each round", true)};
}

std::vector<Parameter> layers_keys(int64_t num_layers) {
  return {{.name = "at",
           .help = "the numbers of the layers that differ, the first is 0",
           .default_value = std::vector<int64_t>(),
           .required = true,
           .min = 0,
           .max = static_cast<double>(num_layers - 1)},
          whole_key("dense_width", "makes them dense, of this width; 0: they route", 0, 0)};
}

std::vector<Parameter> train_keys() {
  return {
      whole_key("steps", "optimiser steps", 1000, 1, 1e9),
      whole_key("batch_size", "sequences in a micro-batch", 8, 1, 1 << 20),
      whole_key("sequence_length", "tokens in a sequence", 256, 2, 1 << 20),
      whole_key("accumulate", "micro-batches in one optimiser step", 1, 1, 1 << 20),
      {.name = "init",
       .help = "a model to go on with: GGUF file, Hugging Face folder, model folder or short name; it "
               "decides the model's shape and its tokenizer",
       .default_value = std::string()},
      {.name = "base",
       .help = "a model folder whose weights the recipe's model begins with where their names agree, and "
               "whose tokenizer it has",
       .default_value = std::string()},
      one_of("parameters", "what is trained; routers: the rest stays as it is", "all", {"all", "routers"}),
      {.name = "freeze",
       .help = "parameters that are not trained, by their names; * stands for any text",
       .default_value = std::vector<std::string>()},
      number_key("learning_rate", "peak learning rate", 1e-3, 0, 10, true),
      one_of("schedule", "how the learning rate changes", "cosine", schedules().names()),
      one_of("objective", "what is minimised", "next_token", objectives().names()),
      one_of("optimizer", "how gradients become updates", "adamw", optimizers().names()),
      number_key("clip_norm", "largest 2-norm of the gradient; 0: no limit", 1.0, 0, 1e9),
      whole_key("log_every", "steps between lines of metrics", 10, 1, 1e9),
      whole_key("evaluate_every", "steps between evaluations on the validation part; 0: at the end only", 0,
                0, 1e9),
      whole_key("evaluate_tokens", "tokens of evaluations before the last; 0: all", 65536, 0, 1e12),
      whole_key("last_evaluate_tokens", "tokens of the last evaluation; 0: all", 1'000'000, 0, 1e12),
      whole_key("checkpoint_every", "steps between checkpoints; 0: when interrupted only", 0, 0, 1e9),
      number_key("spike_factor", "a loss this many times its running mean stops the training; 0: never", 3.0,
                 0, 1e9),
      one_of("precision", "of the products; bfloat16 on CUDA only", "float32", {"float32", "bfloat16"}),
      one_of("device", "where it runs", "auto", {"auto", "cpu", "cuda"})};
}

std::vector<Parameter> data_keys() {
  return {{.name = "paths",
           .help = "files and folders; --data puts others in their place",
           .default_value = std::vector<std::string>()},
          number_key("validation_share", "share of the documents held back", 0.05, 0, 0.9, true),
          {.name = "tokenizer",
           .help = "a tokenizer.json to use instead of training one",
           .default_value = std::string()}};
}

bool has_key(const std::vector<Parameter>& keys, const std::string& name) {
  return std::ranges::find(keys, name, &Parameter::name) != keys.end();
}

namespace {

/// A key, the table it stands in, and the piece that brings it there ("selector top_k"), if one does.
struct KeyHome {
  std::string table, piece;
};

template <typename Factory>
void add_homes(std::vector<KeyHome>& homes, const Registry<Factory>& registry, const std::string& table,
               const char* piece_key, const std::string& key) {
  for (const auto& entry : registry.entries()) {
    if (has_key(entry.spec.parameters, key))
      homes.push_back({table, fmt::format("{} = \"{}\"", piece_key, entry.spec.name)});
  }
}

template <typename Factory>
void add_own_tables(std::vector<KeyHome>& homes, const Registry<Factory>& registry, const std::string& table,
                    const std::string& key) {
  for (const auto& entry : registry.entries()) {
    if (has_key(entry.spec.parameters, key)) homes.push_back({table + "." + entry.spec.name, ""});
  }
}

std::vector<KeyHome> homes_of(const std::string& key) {
  std::vector<KeyHome> homes;
  for (const Spec& table : recipe_tables()) {
    if (table.name != "top" && table.name != "layers" && has_key(table.parameters, key))
      homes.push_back({table.name, ""});
  }
  add_homes(homes, choice::selectors(), "routing", "selector", key);
  add_homes(homes, scorers(), "routing", "scorer", key);
  add_homes(homes, expert_banks(), "experts", "bank", key);
  add_homes(homes, schedules(), "train", "schedule", key);
  add_homes(homes, objectives(), "train", "objective", key);
  add_homes(homes, optimizers(), "train", "optimizer", key);
  add_own_tables(homes, choice::selector_decorators(), "routing", key);
  add_own_tables(homes, scorer_decorators(), "routing", key);
  add_own_tables(homes, balance_terms(), "balance", key);
  add_own_tables(homes, expert_bank_decorators(), "experts", key);
  return homes;
}

}  // namespace

std::string key_hint(const std::string& path, const std::string& key) {
  const std::vector<KeyHome> homes = homes_of(key);
  if (homes.empty()) return "";
  const std::string layers = "layers.", table = path.starts_with(layers) ? path.substr(layers.size()) : path;
  std::vector<std::string> pieces;
  for (const KeyHome& home : homes) {
    if (home.table == table && !home.piece.empty()) pieces.push_back(home.piece);
  }
  if (!pieces.empty()) return fmt::format(" as it is; it belongs to {}", fmt::join(pieces, ", "));
  return fmt::format(", did you mean '{}.{}'?", homes.front().table, key);
}

const std::vector<Spec>& recipe_tables() {
  static const std::vector<Spec> tables = {
      {.name = "top",
       .summary = "what stands above the first table",
       .source = "",
       .formula = "seed = 1, before [model]",
       .parameters = top_keys()},
      {.name = "model",
       .summary = "sizes of the decoder-only language model",
       .source = "defaults after OLMoE, Muennighoff et al. 2024",
       .formula = "[model]",
       .parameters = model_keys()},
      {.name = "experts",
       .summary = "the expert bank of the routed layers",
       .source = "",
       .formula =
           "[experts], with the bank's own keys in the same table; [experts.shared] adds shared experts",
       .parameters = experts_keys()},
      {.name = "routing",
       .summary = "the router of the routed layers",
       .source = "",
       .formula = "[routing], with the keys of scorer and selector in the same table; a decorator is a table "
                  "[routing.NAME]",
       .parameters = routing_keys()},
      {.name = "attention",
       .summary = "the router over heads, with model.attention = \"selective\"",
       .source = "Union of Experts 2025, arXiv 2503.02495",
       .formula =
           "[attention], with the keys of scorer and selector in the same table; decorators are tables "
           "[attention.NAME], balance terms [attention.balance.NAME]",
       .parameters = attention_keys()},
      {.name = "balance",
       .summary = "balance terms of the routed layers, all that are given",
       .source = "",
       .formula =
           "[balance.NAME], one table for each term, with its keys; `gatewright list balance` has the names",
       .parameters = {}},
      {.name = "layers",
       .summary = "layers that differ from the others",
       .source = "",
       .formula = "[[layers]] as often as needed, with at = [0, 1]; what is different follows as "
                  "[layers.experts], [layers.routing] and [layers.balance.NAME], or dense_width",
       .parameters = layers_keys(1024)},
      {.name = "train",
       .summary = "the optimisation",
       .source = "",
       .formula = "[train], with the keys of schedule, objective and optimizer in the same table",
       .parameters = train_keys()},
      {.name = "data", .summary = "the text", .source = "", .formula = "[data]", .parameters = data_keys()}};
  return tables;
}

}  // namespace gatewright

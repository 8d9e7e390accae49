#include "gatewright/models/configuration_json.h"

#include <algorithm>
#include <span>

#include "gatewright/base/json_keys.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/quoted.h"
#include "gatewright/experts/registry.h"

namespace gatewright {
namespace {

/// More than any model has; a bound on what a file may make us build.

OrderedJson to_json(const Value& value) {
  return std::visit([](const auto& x) { return OrderedJson(x); }, value);
}

template <typename T>
Value list_of(const Json& json) {
  return json.get<std::vector<T>>();
}

Value from_json(const Json& json, std::string_view what) {
  try {
    if (json.is_boolean()) return json.get<bool>();
    if (json.is_number_integer()) return json.get<int64_t>();
    if (json.is_number()) return json.get<double>();
    if (json.is_string()) return json.get<std::string>();
    if (json.is_array()) {
      const bool whole =
          std::all_of(json.begin(), json.end(), [](const Json& x) { return x.is_number_integer(); });
      const bool text = !json.empty() && json[0].is_string();
      return text ? list_of<std::string>(json) : whole ? list_of<int64_t>(json) : list_of<double>(json);
    }
  } catch (const Json::exception&) {
  }
  fail("{}: a value of a kind that no parameter has: {}", what, json.dump().substr(0, 60));
}

/// A key that our own objects do not have is a mistake; Hugging Face's top level may hold any.
void check_keys(const Json& json, std::span<const std::string> known, const char* object,
                std::string_view what) {
  require(json.is_object(), "{}: '{}' must be an object", what, object);
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(known, key) == known.end())
      fail("{}: {} is not a key of '{}'{}", what, Quoted{key}, object, did_you_mean(key, known));
  }
}

template <typename Factory>
Piece piece_from_json(const Registry<Factory>& registry, const Json& json, std::string_view what) {
  require(json.is_object(), "{}: a {} must be an object with a name", what, registry.kind());
  const auto name = read_key<std::string>(json, "name", what);
  std::map<std::string, Value> given;
  for (const auto& [key, value] : json.items()) {
    if (key != "name") given[key] = from_json(value, what);
  }
  return {.name = name, .values = Values(registry.at(name).spec.parameters, given, name)};
}

Piece decorator_from_json(const Json& json, std::string_view what) {
  const auto name = read_key<std::string>(json, "name", what);
  if (scorer_decorators().find(name)) return piece_from_json(scorer_decorators(), json, what);
  return piece_from_json(choice::selector_decorators(), json, what);
}

RouterSpec router_from_json(const Json& json, std::string_view what) {
  static const std::vector<std::string> keys = {"scorer", "selector",      "activation", "weights",
                                                "scale",  "gate_gradient", "decorators", "balance"};
  check_keys(json, keys, "router", what);
  RouterSpec router{
      .scorer = piece_from_json(scorers(), read_key<Json>(json, "scorer", what), what),
      .selector = piece_from_json(choice::selectors(), read_key<Json>(json, "selector", what), what)};
  router.activation = choice::parse_activation(read_key_or<std::string>(json, "activation", "softmax", what));
  router.weights.weighting =
      choice::parse_weighting(read_key_or<std::string>(json, "weights", "as_is", what));
  router.weights.scale = read_key_or<double>(json, "scale", 1.0, what);
  const auto gradient = read_key_or<std::string>(json, "gate_gradient", "none", what);
  require(gradient == "none" || gradient == "straight_through",
          "{}: 'gate_gradient' must be none or straight_through, got {}", what, Quoted{gradient});
  router.weights.straight_through = gradient == "straight_through";
  for (const Json& d : read_key_or<Json>(json, "decorators", Json::array(), what))
    router.decorators.push_back(decorator_from_json(d, what));
  for (const Json& b : read_key_or<Json>(json, "balance", Json::array(), what))
    router.balance.push_back(piece_from_json(balance_terms(), b, what));
  return router;
}

OrderedJson pieces_to_json(const std::vector<Piece>& pieces) {
  OrderedJson list = OrderedJson::array();
  for (const Piece& p : pieces) list.push_back(piece_to_json(p));
  return list;
}

OrderedJson router_to_json(const RouterSpec& router) {
  OrderedJson json = {{"scorer", piece_to_json(router.scorer)},
                      {"selector", piece_to_json(router.selector)},
                      {"activation", choice::activation_names()[static_cast<size_t>(router.activation)]},
                      {"weights", choice::weighting_names()[static_cast<size_t>(router.weights.weighting)]},
                      {"scale", router.weights.scale},
                      {"decorators", pieces_to_json(router.decorators)},
                      {"balance", pieces_to_json(router.balance)}};
  if (router.weights.straight_through) json["gate_gradient"] = "straight_through";
  return json;
}

OrderedJson attention_to_json(const SelectiveAttentionSpec& spec) {
  return {{"kind", "selective"},
          {"positions", spec.subsequence_positions ? "subsequence" : "original"},
          {"init", spec.init},
          {"router", router_to_json(spec.router)}};
}

SelectiveAttentionSpec attention_from_json(const Json& json, std::string_view what) {
  static const std::vector<std::string> keys = {"kind", "positions", "init", "router"};
  check_keys(json, keys, "attention", what);
  const auto kind = read_key<std::string>(json, "kind", what);
  require(kind == "selective", "{}: an attention's kind must be selective, got {}", what, Quoted{kind});
  const auto positions = read_key_or<std::string>(json, "positions", "original", what);
  require(positions == "original" || positions == "subsequence",
          "{}: 'positions' must be original or subsequence, got {}", what, Quoted{positions});
  const auto init = read_key_or<double>(json, "init", 0, what);
  require(init >= 0, "{}: 'init' must not be negative, got {}", what, init);
  return {.router = router_from_json(read_key<Json>(json, "router", what), what),
          .subsequence_positions = positions == "subsequence",
          .init = init};
}

OrderedJson rounds_to_json(const RoundsSpec& spec) {
  return {{"count", spec.rounds},
          {"residual", round_residual_names()[static_cast<size_t>(spec.residual)]},
          {"independent_gating", spec.independent_gating}};
}

RoundsSpec rounds_from_json(const Json& json, std::string_view what) {
  static const std::vector<std::string> keys = {"count", "residual", "independent_gating"};
  check_keys(json, keys, "rounds", what);
  return {.rounds = read_size(json, "count", what, kMostRounds),
          .residual = parse_round_residual(read_key<std::string>(json, "residual", what)),
          .independent_gating = read_key<bool>(json, "independent_gating", what)};
}

bool same(const FeedForwardSpec& a, const FeedForwardSpec& b) {
  return feed_forward_to_json(a) == feed_forward_to_json(b);
}

bool all_layers_same(const DecoderSpec& spec) {
  return std::all_of(spec.layers.begin(), spec.layers.end(),
                     [&](const FeedForwardSpec& l) { return same(l, spec.layers[0]); });
}

/// Whether Transformers' OLMoE computes the same function.
bool is_olmoe(const DecoderSpec& spec) {
  const FeedForwardSpec& layer = spec.layers[0];
  if (!layer.routed || !all_layers_same(spec) || spec.query_key_norm != QueryKeyNorm::kProjection ||
      spec.sliding_window != 0 || layer.rounds != RoundsSpec{} || spec.selective_attention)
    return false;
  const RouterSpec& router = layer.router;
  const bool plain_bank = layer.experts.name == "swiglu" && layer.experts.values.integer("width") > 0 &&
                          !layer.experts.values.flag("biases") && layer.expert_decorators.empty();
  const bool plain_weights =
      router.weights.scale == 1.0 && (router.weights.weighting == choice::Weighting::kAsIs ||
                                      router.weights.weighting == choice::Weighting::kRenormalised);
  return plain_bank && plain_weights && router.scorer.name == "linear" &&
         !router.scorer.values.flag("bias") && router.selector.name == "top_k" &&
         router.activation == choice::Activation::kSoftmax && router.decorators.empty() &&
         spec.head_dim * spec.num_heads == spec.hidden_size;
}

const char* norm_name(QueryKeyNorm norm) {
  return norm == QueryKeyNorm::kNone ? "none" : norm == QueryKeyNorm::kHead ? "head" : "projection";
}

QueryKeyNorm parse_norm(const std::string& name, std::string_view what) {
  if (name == "none") return QueryKeyNorm::kNone;
  if (name == "head") return QueryKeyNorm::kHead;
  if (name == "projection") return QueryKeyNorm::kProjection;
  fail("{}: qk_norm must be one of none, head, projection, got {}", what, Quoted{name});
}

double switch_weight(const FeedForwardSpec& layer) {
  for (const Piece& p : layer.router.balance) {
    if (p.name == "switch") return p.values.number("weight");
  }
  return 0;
}

void add_olmoe_keys(OrderedJson& json, const FeedForwardSpec& layer) {
  json["intermediate_size"] = layer.experts.values.integer("width");
  json["num_experts"] = layer.num_experts;
  json["num_experts_per_tok"] = layer.router.selector.values.integer("top_k");
  json["norm_topk_prob"] = layer.router.weights.weighting == choice::Weighting::kRenormalised;
  json["router_aux_loss_coef"] = switch_weight(layer);
}

FeedForwardSpec olmoe_layer(const Json& json, std::string_view what) {
  const auto width = read_size(json, "intermediate_size", what),
             top_k = read_size(json, "num_experts_per_tok", what);
  FeedForwardSpec layer{.routed = true, .num_experts = read_size(json, "num_experts", what, 65536)};
  layer.experts = {
      .name = "swiglu",
      .values = Values(expert_banks().at("swiglu").spec.parameters, {{"width", width}}, "swiglu")};
  layer.router = {
      .scorer = {.name = "linear", .values = Values(scorers().at("linear").spec.parameters, {}, "linear")},
      .selector = {
          .name = "top_k",
          .values = Values(choice::selectors().at("top_k").spec.parameters, {{"top_k", top_k}}, "top_k")}};
  if (read_key_or<bool>(json, "norm_topk_prob", false, what))
    layer.router.weights.weighting = choice::Weighting::kRenormalised;
  return layer;
}

/// What a model of ours always has; another value would make another function of it.
void check_fixed(const Json& json, std::string_view what) {
  for (const char* key : {"clip_qkv", "rope_scaling"})
    require(!json.contains(key) || json[key].is_null(), "{}: '{}' is not supported, it must be null", what,
            key);
  require(!read_key_or<bool>(json, "attention_bias", false, what), "{}: 'attention_bias' is not supported",
          what);
  const auto activation = read_key_or<std::string>(json, "hidden_act", "silu", what);
  require(activation == "silu", "{}: 'hidden_act' must be silu, got {}", what, Quoted{activation});
}

/// Hugging Face's keys of the experts say the same as ours: who changes one must change both.
void check_agreement(const Json& json, const DecoderSpec& spec, std::string_view what) {
  if (!is_olmoe(spec)) return;
  OrderedJson ours = OrderedJson::object();
  add_olmoe_keys(ours, spec.layers[0]);
  ours.erase("router_aux_loss_coef");  // of training only
  for (const auto& [key, value] : ours.items()) {
    if (json.contains(key) && json[key] != Json::parse(value.dump()))
      fail("{}: '{}' is {}, but 'gatewright.layers' says {}", what, key, json[key].dump().substr(0, 60),
           value.dump());
  }
}

void read_layers(DecoderSpec& spec, const Json& json, int64_t num_layers, std::string_view what) {
  const auto type = read_key<std::string>(json, "model_type", what);
  const auto own = json.find("gatewright");
  require(type == "olmoe" || type == "gatewright",
          "{}: model_type {} is not known here; there is: gatewright, olmoe", what, Quoted{type});
  require(type == "olmoe" || own != json.end(),
          "{}: the object 'gatewright', which describes the layers, is missing", what);
  if (own == json.end()) {
    spec.layers.assign(static_cast<size_t>(num_layers), olmoe_layer(json, what));
    return;
  }
  static const std::vector<std::string> keys = {"qk_norm", "attention", "layers"};
  check_keys(*own, keys, "gatewright", what);
  spec.query_key_norm = parse_norm(read_key<std::string>(*own, "qk_norm", what), what);
  if (own->contains("attention")) spec.selective_attention = attention_from_json((*own)["attention"], what);
  spec.initializer_range = read_key_or<double>(json, "initializer_range", 0.02, what);
  const Json layers = read_key<Json>(*own, "layers", what);
  require(layers.is_array() && !layers.empty(), "{}: 'gatewright.layers' must be a list", what);
  // One entry stands for all layers.
  require(layers.size() == 1 || static_cast<int64_t>(layers.size()) == num_layers,
          "{}: num_hidden_layers is {}, but 'gatewright.layers' has {} layers", what, num_layers,
          layers.size());
  for (const Json& layer : layers) spec.layers.push_back(feed_forward_from_json(layer, what));
  if (spec.layers.size() == 1)
    spec.layers.assign(static_cast<size_t>(num_layers), FeedForwardSpec(spec.layers[0]));
  check_agreement(json, spec, what);
}

}  // namespace

OrderedJson piece_to_json(const Piece& piece) {
  OrderedJson json = {{"name", piece.name}};
  for (const auto& [name, value] : piece.values.all()) json[name] = to_json(value);
  return json;
}

OrderedJson feed_forward_to_json(const FeedForwardSpec& layer) {
  if (!layer.routed) return {{"kind", "dense"}, {"intermediate_size", layer.dense_width}};
  OrderedJson json = {{"kind", "routed"},
                      {"num_experts", layer.num_experts},
                      {"experts", piece_to_json(layer.experts)},
                      {"expert_decorators", pieces_to_json(layer.expert_decorators)},
                      {"router", router_to_json(layer.router)}};
  if (layer.rounds != RoundsSpec{}) json["rounds"] = rounds_to_json(layer.rounds);
  return json;
}

FeedForwardSpec feed_forward_from_json(const Json& json, std::string_view what) {
  static const std::vector<std::string> dense = {"kind", "intermediate_size"},
                                        routed = {"kind",   "num_experts", "experts", "expert_decorators",
                                                  "router", "rounds"};
  require(json.is_object(), "{}: a layer must be an object with a kind", what);
  const auto kind = read_key<std::string>(json, "kind", what);
  require(kind == "dense" || kind == "routed", "{}: a layer's kind must be dense or routed, got {}", what,
          Quoted{kind});
  check_keys(json, kind == "dense" ? dense : routed, "layers", what);
  if (kind == "dense") return {.routed = false, .dense_width = read_size(json, "intermediate_size", what)};
  FeedForwardSpec layer{
      .routed = true,
      .num_experts = read_size(json, "num_experts", what, 65536),
      .experts = piece_from_json(expert_banks(), read_key<Json>(json, "experts", what), what),
      .router = router_from_json(read_key<Json>(json, "router", what), what)};
  for (const Json& d : read_key_or<Json>(json, "expert_decorators", Json::array(), what))
    layer.expert_decorators.push_back(piece_from_json(expert_bank_decorators(), d, what));
  if (json.contains("rounds")) layer.rounds = rounds_from_json(json["rounds"], what);
  return layer;
}

OrderedJson to_config_json(const DecoderSpec& spec) {
  const bool olmoe = is_olmoe(spec);
  OrderedJson json = {{"architectures", {olmoe ? "OlmoeForCausalLM" : "GatewrightForCausalLM"}},
                      {"model_type", olmoe ? "olmoe" : "gatewright"},
                      {"vocab_size", spec.vocab_size},
                      {"hidden_size", spec.hidden_size},
                      {"num_hidden_layers", spec.num_layers()},
                      {"num_attention_heads", spec.num_heads},
                      {"num_key_value_heads", spec.num_kv_heads},
                      {"head_dim", spec.head_dim},
                      {"max_position_embeddings", spec.max_positions},
                      {"hidden_act", "silu"},
                      {"attention_bias", false},
                      {"rms_norm_eps", spec.rms_norm_eps},
                      {"rope_theta", spec.rotary.theta},
                      {"initializer_range", spec.initializer_range},
                      {"tie_word_embeddings", spec.tie_word_embeddings},
                      {"torch_dtype", "float32"}};
  if (spec.sliding_window > 0) json["sliding_window"] = spec.sliding_window;
  if (olmoe) add_olmoe_keys(json, spec.layers[0]);
  OrderedJson layers = OrderedJson::array();
  const size_t listed = all_layers_same(spec) ? 1 : spec.layers.size();
  for (size_t i = 0; i < listed; ++i) layers.push_back(feed_forward_to_json(spec.layers[i]));
  json["gatewright"] = {{"qk_norm", norm_name(spec.query_key_norm)}};
  if (spec.selective_attention)
    json["gatewright"]["attention"] = attention_to_json(*spec.selective_attention);
  json["gatewright"]["layers"] = layers;
  return json;
}

namespace {

DecoderSpec read_spec(const Json& json, std::string_view what) {
  require(json.is_object(), "{}: an object was expected", what);
  DecoderSpec spec;
  spec.vocab_size = read_size(json, "vocab_size", what);
  spec.hidden_size = read_size(json, "hidden_size", what);
  const int64_t num_layers = read_size(json, "num_hidden_layers", what, kMostLayers);
  spec.num_heads = read_size(json, "num_attention_heads", what, 65536);
  spec.num_kv_heads = json.contains("num_key_value_heads")
                          ? read_size(json, "num_key_value_heads", what, 65536)
                          : spec.num_heads;
  spec.head_dim =
      json.contains("head_dim") ? read_size(json, "head_dim", what) : spec.hidden_size / spec.num_heads;
  spec.max_positions = read_key_or<int64_t>(json, "max_position_embeddings", 4096, what);
  spec.sliding_window = read_key_or<int64_t>(json, "sliding_window", 0, what);
  spec.rotary.theta = read_key_or<double>(json, "rope_theta", 10000.0, what);
  spec.rms_norm_eps = read_key_or<double>(json, "rms_norm_eps", 1e-5, what);
  spec.tie_word_embeddings = read_key_or<bool>(json, "tie_word_embeddings", false, what);
  require(spec.rotary.theta > 0 && spec.rms_norm_eps > 0 && spec.sliding_window >= 0,
          "{}: rope_theta and rms_norm_eps must be positive, sliding_window not negative", what);
  check_fixed(json, what);
  read_layers(spec, json, num_layers, what);
  validate(spec);
  return spec;
}

}  // namespace

DecoderSpec parse_config_json(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what);
  try {
    return read_spec(json, what);
  } catch (const UsageError& e) {
    fail("{}: {}", what, e.what());
  }
}

}  // namespace gatewright

#include "gatewright/models/families/hf_config.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/json_keys.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr const char* kNumExpertsKeys[] = {"num_experts", "num_local_experts", "n_routed_experts"};

/// One config.json while it is read.
struct Config {
  const Json& json;
  std::string_view what;

  bool has(const char* key) const {
    const auto it = json.find(key);
    return it != json.end() && !it->is_null();
  }
  int64_t size(const char* key) const { return read_size(json, key, what); }
  int64_t size_or(const char* key, int64_t otherwise) const { return has(key) ? size(key) : otherwise; }
  double number(const char* key, double otherwise) const {
    const auto value = read_key_or<double>(json, key, otherwise, what);
    require(std::isfinite(value), "{}: '{}' must be a finite number", what, key);
    return value;
  }
  bool flag(const char* key, bool otherwise) const { return read_key_or<bool>(json, key, otherwise, what); }
  std::string text(const char* key, const std::string& otherwise) const {
    return read_key_or<std::string>(json, key, otherwise, what);
  }
  std::vector<double> numbers(const char* key) const {
    return read_key_or<std::vector<double>>(json, key, {}, what);
  }
  Config object(const char* key) const {
    require(json[key].is_object(), "{}: '{}' must be an object", what, key);
    return {json[key], what};
  }
  /// A whole number for all layers, or a list with one for each.
  std::vector<int64_t> each_layer(const char* key, size_t layers) const {
    if (!has(key) || !json[key].is_array()) return std::vector<int64_t>(layers, size(key));
    const auto list = read_key<std::vector<int64_t>>(json, key, what);
    require(list.size() == layers, "{}: '{}' has {} entries for {} layers", what, key, list.size(), layers);
    return list;
  }
};

const Family& family_of(const Config& c) {
  const auto type = read_key<std::string>(c.json, "model_type", c.what);
  if (const Family* family = find_family(type)) return *family;
  std::vector<std::string> known;
  for (const Family& f : families()) known.push_back(f.model_type);
  fail("{}: model_type {} is not known here{}", c.what, Quoted{type}, did_you_mean(type, known));
}

// --- rotary embedding ---

RotaryScaling parse_scaling(const std::string& type, std::string_view what) {
  if (type == "default" || type == "none" || type.empty()) return RotaryScaling::kNone;
  if (type == "linear") return RotaryScaling::kLinear;
  if (type == "llama3") return RotaryScaling::kLlama3;
  if (type == "yarn") return RotaryScaling::kYarn;
  if (type == "longrope" || type == "su") return RotaryScaling::kLongRope;
  fail("{}: rotary scaling {} is not known here; there is: linear, llama3, yarn, longrope", what,
       Quoted{type});
}

/// Rounded to float32, as GGUF stores them: the same angles from both formats.
std::vector<double> as_floats(std::vector<double> values) {
  for (double& v : values) v = static_cast<double>(static_cast<float>(v));
  return values;
}

void read_scaling(RotarySpec& rotary, const Config& c, const Config& whole) {
  rotary.scaling = parse_scaling(c.text("rope_type", c.text("type", "default")), c.what);
  rotary.theta = c.number("rope_theta", rotary.theta);
  if (rotary.scaling == RotaryScaling::kNone) return;
  const int64_t context = whole.size_or("max_position_embeddings", 2048);
  rotary.original_positions = c.has("original_max_position_embeddings")
                                  ? c.size("original_max_position_embeddings")
                                  : whole.size_or("original_max_position_embeddings", context);
  // LongRoPE: how much longer the whole context is.
  rotary.factor =
      c.number("factor", static_cast<double>(context) / static_cast<double>(rotary.original_positions));
  rotary.attention_factor = c.number("attention_factor", 0);
  rotary.low_frequency_factor = c.number("low_freq_factor", 1);
  rotary.high_frequency_factor = c.number("high_freq_factor", 4);
  rotary.beta_fast = c.number("beta_fast", 32);
  rotary.beta_slow = c.number("beta_slow", 1);
  rotary.truncate = c.flag("truncate", true);
  rotary.mscale = c.number("mscale", 0);
  rotary.mscale_all_dim = c.number("mscale_all_dim", 0);
  rotary.short_factors = as_floats(c.numbers("short_factor"));
  rotary.long_factors = as_floats(c.numbers("long_factor"));
}

RotarySpec read_rotary(const Config& c) {
  RotarySpec rotary{.theta = c.number("rope_theta", 10000.0)};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (c.has(key)) read_scaling(rotary, c.object(key), c);
  }
  return rotary;
}

OrderedJson scaling_json(const RotarySpec& r) {
  OrderedJson json = {{"rope_type", rotary_scaling_name(r.scaling)}};
  if (r.scaling != RotaryScaling::kLongRope) json["factor"] = r.factor;
  if (r.attention_factor > 0) json["attention_factor"] = r.attention_factor;
  if (r.scaling == RotaryScaling::kLlama3) {
    json["low_freq_factor"] = r.low_frequency_factor;
    json["high_freq_factor"] = r.high_frequency_factor;
  }
  if (r.scaling == RotaryScaling::kYarn) {
    json["beta_fast"] = r.beta_fast;
    json["beta_slow"] = r.beta_slow;
    if (!r.truncate) json["truncate"] = false;
    if (r.mscale > 0) json["mscale"] = r.mscale;
    if (r.mscale_all_dim > 0) json["mscale_all_dim"] = r.mscale_all_dim;
  }
  if (r.scaling == RotaryScaling::kLongRope) {
    json["short_factor"] = r.short_factors;
    json["long_factor"] = r.long_factors;
  }
  if (r.original_positions > 0) json["original_max_position_embeddings"] = r.original_positions;
  return json;
}

// --- feed-forward ---

/// Those of families whose config.json may leave them out.
RoutedSpec routed_habits(const Family& family) {
  RoutedSpec routed{.renormalise = family.renormalise};
  if (family.model_type == "gpt_oss") {
    routed.renormalise = false;
    routed.softmax_chosen = routed.router_bias = routed.biases = true;
  }
  return routed;
}

void read_deepseek(RoutedSpec& routed, const Config& c, bool v3) {
  routed.scale = c.number("routed_scaling_factor", 1);
  const std::string scoring = c.text("scoring_func", v3 ? "sigmoid" : "softmax");
  require(scoring == "softmax" || scoring == "sigmoid", "{}: scoring_func {} is not known here", c.what,
          Quoted{scoring});
  routed.sigmoid = scoring == "sigmoid";
  const std::string method = c.text("topk_method", v3 ? "noaux_tc" : "greedy");
  require(method == "greedy" || method == "group_limited_greedy" || method == "noaux_tc",
          "{}: topk_method {} is not known here; there is: greedy, group_limited_greedy, noaux_tc", c.what,
          Quoted{method});
  routed.selection_bias = method == "noaux_tc";
  routed.group_by_best = method != "noaux_tc";
  if (method == "greedy") return;
  routed.num_groups = c.size_or("n_group", 1);
  routed.groups_used = c.size_or("topk_group", 1);
}

/// width: of the layer's feed-forward, where experts have no key of their own.
RoutedSpec read_routed(const Family& family, const Config& c, int64_t width) {
  RoutedSpec routed = routed_habits(family);
  const bool deepseek = family.gguf == "deepseek2";
  routed.renormalise = c.flag("norm_topk_prob", routed.renormalise);
  routed.width = c.size_or("moe_intermediate_size", width);
  if (deepseek) {
    read_deepseek(routed, c, family.model_type == "deepseek_v3");
    routed.shared_width = c.has("n_shared_experts") && c.json["n_shared_experts"] != 0
                              ? c.size("n_shared_experts") * routed.width
                              : 0;
  }
  if (family.model_type == "qwen2_moe") {
    routed.shared_width = c.size_or("shared_expert_intermediate_size", 5632);
    routed.shared_gate = true;
  }
  return routed;
}

bool is_routed_family(const Family& family) {
  return family.gguf != "qwen2" && family.gguf != "qwen3" && family.gguf != "phi3" &&
         family.model_type != "llama" && family.model_type != "mistral";
}

/// The key of the number of experts: the family's own, or another family's, as Transformers 5 writes it.
std::string num_experts_key(const Family& family, const Config& c) {
  if (c.has(family.num_experts_key.c_str())) return family.num_experts_key;
  for (const char* key : kNumExpertsKeys) {
    if (c.has(key)) return key;
  }
  return family.num_experts_key;
}

/// Which layers of a routed family are dense all the same.
bool is_dense_layer(const Family& family, const Config& c, int64_t layer) {
  if (!is_routed_family(family)) return true;
  if (family.gguf == "deepseek2")
    return layer < read_key_or<int64_t>(c.json, "first_k_dense_replace", 0, c.what);
  const auto dense = read_key_or<std::vector<int64_t>>(c.json, "mlp_only_layers", {}, c.what);
  if (std::ranges::find(dense, layer) != dense.end()) return true;
  return (layer + 1) % c.size_or("decoder_sparse_step", 1) != 0;
}

/// The width of each layer's sliding window, 0 for none.
int64_t window_of(const Family& family, const Config& c, int64_t layer) {
  if (!c.has("sliding_window")) return 0;
  if (family.gguf.starts_with("qwen") && !c.flag("use_sliding_window", false)) return 0;
  const int64_t window = c.size("sliding_window");
  if (c.has("layer_types")) {
    const auto types = read_key<std::vector<std::string>>(c.json, "layer_types", c.what);
    require(layer < std::ssize(types), "{}: 'layer_types' has {} entries, layer {} has none", c.what,
            types.size(), layer);
    return types[static_cast<size_t>(layer)] == "sliding_attention" ? window : 0;
  }
  if (family.model_type == "gpt_oss") return layer % 2 == 0 ? window : 0;
  if (family.gguf.starts_with("qwen"))
    return layer >= read_key_or<int64_t>(c.json, "max_window_layers", 0, c.what) ? window : 0;
  return window;
}

void read_layers(Architecture& a, const Family& family, const Config& c) {
  const auto count = static_cast<size_t>(read_size(c.json, "num_hidden_layers", c.what, kMostLayers));
  const std::vector<int64_t> width = c.each_layer("intermediate_size", count);
  std::vector<int64_t> experts(count, 0), top_k(count, 0);
  if (is_routed_family(family)) {
    experts = c.each_layer(num_experts_key(family, c).c_str(), count);
    top_k = c.each_layer("num_experts_per_tok", count);
  }
  for (size_t i = 0; i < count; ++i) {
    const auto layer = static_cast<int64_t>(i);
    ArchitectureLayer spec{.window = window_of(family, c, layer)};
    if (is_dense_layer(family, c, layer) || experts[i] == 0) {
      spec.dense_width = width[i];
    } else {
      spec.routed = read_routed(family, c, width[i]);
      spec.routed->num_experts = experts[i];
      spec.routed->top_k = top_k[i];
    }
    a.layers.push_back(std::move(spec));
  }
}

// --- attention ---

void read_attention(Architecture& a, const Family& family, const Config& c) {
  a.num_heads = c.size("num_attention_heads");
  a.num_kv_heads = c.size_or("num_key_value_heads", a.num_heads);
  a.head_dim = c.size_or("head_dim", std::max<int64_t>(a.hidden_size / a.num_heads, 1));
  a.query_key_norm = family.query_key_norm;
  const bool bias = c.flag("attention_bias", family.model_type == "gpt_oss");
  a.query_key_value_bias =
      family.gguf.starts_with("qwen2") ? c.flag("qkv_bias", family.query_key_value_bias) : bias;
  a.output_bias = bias && !family.gguf.starts_with("qwen2");
  a.attention_sinks = a.clamped_swiglu = family.model_type == "gpt_oss";
  a.clip_qkv = c.number("clip_qkv", 0);
  if (family.gguf != "deepseek2") return;
  a.latent = LatentAttentionSpec{.query_rank = c.size_or("q_lora_rank", 0),
                                 .key_value_rank = c.size("kv_lora_rank"),
                                 .nope_dim = c.size("qk_nope_head_dim"),
                                 .rope_dim = c.size("qk_rope_head_dim"),
                                 .value_dim = c.size("v_head_dim")};
  a.num_kv_heads = a.num_heads;
  a.head_dim = a.latent->nope_dim + a.latent->rope_dim;
  a.query_key_value_bias = a.output_bias = false;
}

/// Keys of config.json that change the function in ways that are not supported.
void check_supported(const Family& family, const Config& c) {
  const std::string activation = c.text("hidden_act", "silu");
  require(activation == "silu" || activation == "swish", "{}: 'hidden_act' must be silu, got {}", c.what,
          Quoted{activation});
  require(!c.flag("mlp_bias", false), "{}: 'mlp_bias' is not supported", c.what);
  const double partial = c.number("partial_rotary_factor", 1);
  require(partial == 1, "{}: a partial_rotary_factor of {} is not supported", c.what, partial);
  require(family.gguf != "deepseek2" || !c.flag("attention_bias", false),
          "{}: 'attention_bias' is not supported in latent attention", c.what);
}

}  // namespace

Architecture architecture_from_config(const Json& config, std::string_view what) {
  require(config.is_object(), "{}: an object was expected", what);
  const Config c{config, what};
  const Family& family = family_of(c);
  check_supported(family, c);
  Architecture a{.family = family.model_type,
                 .name = c.text("_name_or_path", ""),
                 .vocab_size = c.size("vocab_size"),
                 .hidden_size = c.size("hidden_size")};
  a.max_positions = c.size_or("max_position_embeddings", 2048);
  a.rms_norm_eps = c.number("rms_norm_eps", family.model_type == "olmoe" ? 1e-5 : 1e-6);
  a.tie_word_embeddings = c.flag("tie_word_embeddings", false);
  read_attention(a, family, c);
  a.rotary = read_rotary(c);
  read_layers(a, family, c);
  check_architecture(a, std::string(what));
  return a;
}

namespace {

/// Whether config.json of the family can tell the dense layers from the routed ones.
bool is_told_by_keys(const Architecture& a, const Family& family) {
  const int64_t dense = a.leading_dense_layers();
  return dense == 0 || family.gguf.starts_with("qwen") || (dense > 0 && family.gguf == "deepseek2");
}

/// One number when it is all routed layers', else a list with 0 for dense ones.
template <typename Read>
OrderedJson one_or_each(const Architecture& a, const Family& family, const Read& read) {
  if (a.uniform_experts() && is_told_by_keys(a, family)) return read(*a.first_routed());
  OrderedJson list = OrderedJson::array();
  for (const ArchitectureLayer& layer : a.layers)
    list.push_back(layer.routed ? read(*layer.routed) : int64_t{0});
  return list;
}

/// Of the dense layers where experts have a key of their own, else of each layer.
OrderedJson widths_json(const Architecture& a, const Family& family) {
  const bool own_width = family.gguf == "deepseek2" || family.gguf.starts_with("qwen");
  OrderedJson widths = OrderedJson::array();
  for (const ArchitectureLayer& layer : a.layers) {
    if (!layer.routed || !own_width) widths.push_back(layer.routed ? layer.routed->width : layer.dense_width);
  }
  if (widths.empty()) return a.first_routed()->width;
  const bool same = std::ranges::all_of(widths, [&](const OrderedJson& w) { return w == widths[0]; });
  return same ? widths[0] : widths;
}

void write_deepseek(OrderedJson& json, const Architecture& a, const RoutedSpec& r) {
  json["n_shared_experts"] = r.width > 0 ? r.shared_width / r.width : 0;
  json["routed_scaling_factor"] = r.scale;
  json["scoring_func"] = r.sigmoid ? "sigmoid" : "softmax";
  json["topk_method"] = r.selection_bias ? "noaux_tc" : r.num_groups > 1 ? "group_limited_greedy" : "greedy";
  json["n_group"] = r.num_groups;
  json["topk_group"] = r.groups_used;
  json["first_k_dense_replace"] = std::max<int64_t>(a.leading_dense_layers(), 0);
}

void write_routed(OrderedJson& json, const Architecture& a, const Family& family) {
  const RoutedSpec* routed = a.first_routed();
  if (!routed) return;
  for (const char* key : kNumExpertsKeys) {
    if (key != family.num_experts_key) json.erase(key);
  }
  json[family.num_experts_key] = one_or_each(a, family, [](const RoutedSpec& r) { return r.num_experts; });
  json["num_experts_per_tok"] = one_or_each(a, family, [](const RoutedSpec& r) { return r.top_k; });
  if (family.model_type != "mixtral" && family.model_type != "gpt_oss")
    json["norm_topk_prob"] = routed->renormalise;
  if (family.gguf == "deepseek2") write_deepseek(json, a, *routed);
  if (routed->shared_gate) json["shared_expert_intermediate_size"] = routed->shared_width;
  if (family.gguf == "deepseek2" || family.gguf.starts_with("qwen"))
    json["moe_intermediate_size"] = routed->width;
  if (!family.gguf.starts_with("qwen")) return;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = OrderedJson::array();
  for (size_t i = 0; i < a.layers.size(); ++i) {
    if (!a.layers[i].routed) json["mlp_only_layers"].push_back(i);
  }
}

void write_window(OrderedJson& json, const Architecture& a, const Family& family) {
  const auto slides = [](const ArchitectureLayer& layer) { return layer.window > 0; };
  const auto first = std::ranges::find_if(a.layers, slides);
  if (first == a.layers.end()) return;
  json["sliding_window"] = first->window;
  if (family.gguf.starts_with("qwen")) json["use_sliding_window"] = true;
  if (std::ranges::all_of(a.layers, slides) && !family.gguf.starts_with("qwen")) return;
  json["layer_types"] = OrderedJson::array();
  for (const ArchitectureLayer& layer : a.layers)
    json["layer_types"].push_back(slides(layer) ? "sliding_attention" : "full_attention");
}

/// In the form that the file had: one object (Transformers 5), or two keys.
void write_rotary(OrderedJson& json, const RotarySpec& rotary) {
  const bool scaled = rotary.scaling != RotaryScaling::kNone;
  if (!json.contains("rope_parameters")) {
    json["rope_theta"] = rotary.theta;
    if (scaled) json["rope_scaling"] = scaling_json(rotary);
    return;
  }
  json["rope_parameters"] = scaled ? scaling_json(rotary) : OrderedJson{{"rope_type", "default"}};
  json["rope_parameters"]["rope_theta"] = rotary.theta;
  json.erase("rope_theta");
  json.erase("rope_scaling");
}

void write_latent(OrderedJson& json, const LatentAttentionSpec& latent) {
  json["q_lora_rank"] = latent.query_rank > 0 ? OrderedJson(latent.query_rank) : OrderedJson();
  json["kv_lora_rank"] = latent.key_value_rank;
  json["qk_nope_head_dim"] = latent.nope_dim;
  json["qk_rope_head_dim"] = latent.rope_dim;
  json["v_head_dim"] = latent.value_dim;
}

}  // namespace

OrderedJson config_from_architecture(const Architecture& a, const OrderedJson& config) {
  const Family& family = *find_family(a.family);
  OrderedJson json = config;
  json["architectures"] = {family.class_name};
  json["model_type"] = family.model_type;
  json["vocab_size"] = a.vocab_size;
  json["hidden_size"] = a.hidden_size;
  // Of a family that has experts only, published files keep a width that nothing reads.
  if (!json.contains("intermediate_size") || a.leading_dense_layers() != 0 ||
      !family.gguf.starts_with("qwen"))
    json["intermediate_size"] = widths_json(a, family);
  json["num_hidden_layers"] = a.num_layers();
  json["num_attention_heads"] = a.num_heads;
  json["num_key_value_heads"] = a.num_kv_heads;
  if (!a.latent) json["head_dim"] = a.head_dim;
  json["max_position_embeddings"] = a.max_positions;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = a.rms_norm_eps;
  json["tie_word_embeddings"] = a.tie_word_embeddings;
  write_rotary(json, a.rotary);
  if (family.gguf == "qwen2moe" || family.gguf == "qwen2") {
    if (!a.query_key_value_bias) json["qkv_bias"] = false;
  } else {
    json["attention_bias"] = a.query_key_value_bias;
  }
  if (a.clip_qkv > 0) json["clip_qkv"] = a.clip_qkv;
  if (a.latent) write_latent(json, *a.latent);
  write_window(json, a, family);
  write_routed(json, a, family);
  return json;
}

std::vector<std::string> beyond_transformers(const Architecture& a) {
  std::vector<std::string> beyond;
  if (a.first_routed() && (!a.uniform_experts() || !is_told_by_keys(a, *find_family(a.family))))
    beyond.emplace_back(
        "layers with other numbers of experts, or of experts a token, or dense ones among them");
  if (a.rotary.scaling == RotaryScaling::kLlama3 && a.rotary.original_positions == 0)
    beyond.emplace_back("rotary frequencies divided by a list that follows no Llama-3 rule");
  return beyond;
}

}  // namespace gatewright

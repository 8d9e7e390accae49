#include "gatewright/models/families/gguf_config.h"

#include <algorithm>
#include <string>

#include "gatewright/base/checked.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/quoted.h"
#include "gatewright/models/families/gguf_keys.h"
#include "gatewright/models/families/gguf_rotary.h"

namespace gatewright {
namespace {

constexpr const char* kOwnFamily =
    "gatewright.model_type";  // where an architecture stands for several families

using Tensors = std::map<std::string, TensorView>;
using Keys = GgufKeys;

// --- family ---

const Family& family_of(const GgufMetadata& metadata, const std::string& architecture) {
  std::vector<std::string> known;
  const Family* found = nullptr;
  const std::string count = architecture + ".expert_count";
  const bool routed = metadata.contains(count) && metadata.integers(count) != std::vector<int64_t>{0};
  const std::string told = metadata.text_or(kOwnFamily, "");
  const bool sigmoid = metadata.integer_or(architecture + ".expert_gating_func", 1) == 2;
  for (const Family& f : families()) {
    if (std::ranges::find(known, f.gguf) == known.end()) known.push_back(f.gguf);
    if (f.gguf != architecture) continue;
    const bool fits = !told.empty()             ? f.model_type == told
                      : architecture == "llama" ? f.model_type == (routed ? "mixtral" : "llama")
                      : architecture == "deepseek2"
                          ? f.model_type == (sigmoid ? "deepseek_v3" : "deepseek_v2")
                          : true;
    if (fits) found = &f;
  }
  if (found) return *found;
  fail("{}: the architecture {} is not known here{}", metadata.what(), Quoted{architecture},
       did_you_mean(architecture, known));
}

// --- feed-forward ---

/// width: of the layer's feed-forward, where experts have no key of their own.
RoutedSpec read_routed(const Keys& k, const Family& family, int64_t width) {
  RoutedSpec r{.width = k.size_or("expert_feed_forward_length", width), .renormalise = family.renormalise};
  // llama.cpp reads this key for DeepSeek only, and writes false for all.
  if (family.gguf == "deepseek2" || k.metadata.contains(kOwnFamily))
    r.renormalise = k.metadata.flag_or(k.key("expert_weights_norm"), family.renormalise);
  r.scale = k.number_or("expert_weights_scale", 1);
  if (r.scale == 0) r.scale = 1;  // as files say it that mean none
  r.sigmoid = k.metadata.integer_or(k.key("expert_gating_func"), 1) == 2;
  r.num_groups = k.size_or("expert_group_count", 1);
  r.groups_used = k.size_or("expert_group_used_count", 1);
  r.group_by_best = family.model_type != "deepseek_v3";
  if (family.model_type == "gpt_oss") r.softmax_chosen = r.router_bias = r.biases = true;
  if (family.gguf == "deepseek2" && k.metadata.integer_or(k.key("expert_shared_count"), 0) > 0)
    r.shared_width = checked_mul(k.size("expert_shared_count"), r.width, "the width of the shared experts");
  if (family.model_type == "qwen2_moe") {
    r.shared_width = k.size("expert_shared_feed_forward_length");
    r.shared_gate = true;
  }
  return r;
}

/// What only the tensors of the layer tell.
void look_at_tensors(ArchitectureLayer& layer, const Tensors& tensors, size_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  if (layer.routed) layer.routed->selection_bias = tensors.contains(prefix + "exp_probs_b.bias");
}

int64_t window_of(const Keys& k, const Family& family, int64_t layer) {
  const int64_t window = k.metadata.integer_or(k.key("attention.sliding_window"), 0);
  require(window >= 0, "{}: {} is {}", k.metadata.what(), k.key("attention.sliding_window"), window);
  return family.model_type == "gpt_oss" && layer % 2 != 0 ? 0 : window;
}

void read_layers(Architecture& a, const Keys& k, const Family& family, const Tensors& tensors) {
  const int64_t count = k.size("block_count");
  require(count <= kMostLayers, "{}: {} layers; {} can be at most", k.metadata.what(), count, kMostLayers);
  const auto layers = static_cast<size_t>(count);
  std::vector<int64_t> experts(layers, 0), top_k(layers, 0);
  if (k.has("expert_count")) experts = k.each_layer("expert_count", layers);
  if (k.has("expert_used_count")) top_k = k.each_layer("expert_used_count", layers);
  const int64_t dense_layers = k.metadata.integer_or(k.key("leading_dense_block_count"), 0);
  const std::vector<int64_t> width = k.each_layer("feed_forward_length", layers);
  for (size_t i = 0; i < layers; ++i) {
    const auto layer = static_cast<int64_t>(i);
    ArchitectureLayer spec{.window = window_of(k, family, layer)};
    if (experts[i] > 0 && layer >= dense_layers) {
      spec.routed = read_routed(k, family, width[i]);
      spec.routed->num_experts = experts[i];
      spec.routed->top_k = top_k[i];
    } else {
      spec.dense_width = width[i];
    }
    look_at_tensors(spec, tensors, i);
    a.layers.push_back(std::move(spec));
  }
}

// --- attention ---

void read_latent(Architecture& a, const Keys& k) {
  LatentAttentionSpec latent{.query_rank = k.size_or("attention.q_lora_rank", 0),
                             .key_value_rank = k.size("attention.kv_lora_rank"),
                             .rope_dim = k.size("rope.dimension_count")};
  // Older files give a head's sizes without _mla.
  const int64_t head = k.has_size("attention.key_length_mla") ? k.size("attention.key_length_mla")
                                                              : k.size("attention.key_length");
  latent.nope_dim = head - latent.rope_dim;
  latent.value_dim = k.has_size("attention.value_length_mla") ? k.size("attention.value_length_mla")
                                                              : k.size("attention.value_length");
  a.latent = latent;
  a.num_kv_heads = a.num_heads;
  a.head_dim = head;
}

void read_attention(Architecture& a, const Keys& k, const Family& family, const Tensors& tensors) {
  a.num_heads = k.size("attention.head_count");
  a.num_kv_heads = k.size_or("attention.head_count_kv", a.num_heads);
  if (family.gguf == "deepseek2") return read_latent(a, k);
  a.head_dim = k.size_or("attention.key_length", std::max<int64_t>(a.hidden_size / a.num_heads, 1));
  require(k.size_or("attention.value_length", a.head_dim) == a.head_dim,
          "{}: keys of {} and values of {} numbers a head are not supported", k.metadata.what(), a.head_dim,
          k.size_or("attention.value_length", a.head_dim));
  require(k.size_or("rope.dimension_count", a.head_dim) == a.head_dim,
          "{}: a rotary embedding of {} of {} values of a head is not supported", k.metadata.what(),
          k.size_or("rope.dimension_count", a.head_dim), a.head_dim);
  a.query_key_norm = family.query_key_norm;
  a.query_key_value_bias = tensors.contains("blk.0.attn_q.bias");
  a.output_bias = tensors.contains("blk.0.attn_output.bias");
  a.attention_sinks = a.clamped_swiglu = family.model_type == "gpt_oss";
  a.clip_qkv = k.number_or("attention.clamp_kqv", 0);
}

int64_t vocabulary_size(const Keys& k, const Tensors& tensors) {
  const auto embedding = tensors.find("token_embd.weight");
  require(embedding != tensors.end() && embedding->second.shape.size() == 2,
          "{}: there is no token_embd.weight of two dimensions: it holds no model", k.metadata.what());
  const int64_t rows = embedding->second.shape[0];
  require(k.size_or("vocab_size", rows) == rows, "{}: {} is {}, token_embd.weight has {} rows",
          k.metadata.what(), k.key("vocab_size"), k.size_or("vocab_size", rows), rows);
  return rows;
}

}  // namespace

Architecture architecture_from_gguf(const GgufMetadata& keys, const Tensors& tensors) {
  const std::string name = keys.text("general.architecture");
  const Keys k{keys, name + "."};
  const Family& family = family_of(keys, name);
  Architecture a{.family = family.model_type, .name = keys.text_or("general.name", "")};
  a.hidden_size = k.size("embedding_length");
  a.max_positions = k.size_or("context_length", 2048);
  a.rms_norm_eps = k.number_or("attention.layer_norm_rms_epsilon", 1e-6);
  a.vocab_size = vocabulary_size(k, tensors);
  a.tie_word_embeddings = !tensors.contains("output.weight");
  read_attention(a, k, family, tensors);
  a.rotary = rotary_from_gguf(k, tensors, a.rotary_width());
  read_layers(a, k, family, tensors);
  check_architecture(a, keys.what());
  return a;
}

namespace {

/// Whether the dense layers can be told apart from the routed ones by a number.
bool is_told_by_number(const Architecture& a, const Family& family) {
  const int64_t dense = a.leading_dense_layers();
  return dense == 0 || (dense > 0 && family.gguf == "deepseek2");
}

/// One number when all routed layers have the same, else an array with 0 for dense ones.
template <typename Read>
void set_each_layer(GgufMetadata& keys, const std::string& key, const Architecture& a, const Family& family,
                    const Read& read) {
  std::vector<uint32_t> values;
  for (const ArchitectureLayer& layer : a.layers)
    values.push_back(checked_cast<uint32_t>(layer.routed ? read(*layer.routed) : int64_t{0}, key));
  if (a.uniform_experts() && is_told_by_number(a, family))
    return set_size(keys, key, read(*a.first_routed()));
  keys.set(key, values);
}

void set_routed(GgufMetadata& keys, const std::string& p, const Architecture& a, const Family& family) {
  const RoutedSpec* r = a.first_routed();
  if (!r) return;
  set_each_layer(keys, p + "expert_count", a, family, [](const RoutedSpec& x) { return x.num_experts; });
  set_each_layer(keys, p + "expert_used_count", a, family, [](const RoutedSpec& x) { return x.top_k; });
  const bool own_width = family.gguf != "llama" && family.gguf != "olmoe";
  if (own_width) set_size(keys, p + "expert_feed_forward_length", r->width);
  if (r->shared_gate) set_size(keys, p + "expert_shared_feed_forward_length", r->shared_width);
  if (r->renormalise != family.renormalise || family.gguf == "deepseek2")
    keys.set(p + "expert_weights_norm", r->renormalise);
  if (family.gguf == "deepseek2") {
    set_size(keys, p + "expert_shared_count", r->shared_width / r->width);
    set_number(keys, p + "expert_weights_scale", r->scale);
    set_size(keys, p + "expert_gating_func", r->sigmoid ? 2 : 1);
    const auto first =
        std::ranges::find_if(a.layers, [](const ArchitectureLayer& l) { return l.routed.has_value(); });
    set_size(keys, p + "leading_dense_block_count", first - a.layers.begin());
  }
  if (r->num_groups > 1) {
    set_size(keys, p + "expert_group_count", r->num_groups);
    set_size(keys, p + "expert_group_used_count", r->groups_used);
  }
}

void set_attention(GgufMetadata& keys, const std::string& p, const Architecture& a) {
  set_size(keys, p + "attention.head_count", a.num_heads);
  set_size(keys, p + "attention.head_count_kv", a.latent ? 1 : a.num_kv_heads);
  set_number(keys, p + "attention.layer_norm_rms_epsilon", a.rms_norm_eps);
  if (a.clip_qkv > 0) set_number(keys, p + "attention.clamp_kqv", a.clip_qkv);
  if (!a.latent) {
    set_size(keys, p + "attention.key_length", a.head_dim);
    set_size(keys, p + "attention.value_length", a.head_dim);
    return;
  }
  const LatentAttentionSpec& l = *a.latent;
  if (l.query_rank > 0) set_size(keys, p + "attention.q_lora_rank", l.query_rank);
  set_size(keys, p + "attention.kv_lora_rank", l.key_value_rank);
  set_size(keys, p + "attention.key_length", l.key_value_rank + l.rope_dim);
  set_size(keys, p + "attention.value_length", l.key_value_rank);
  set_size(keys, p + "attention.key_length_mla", l.nope_dim + l.rope_dim);
  set_size(keys, p + "attention.value_length_mla", l.value_dim);
}

/// Of the dense layers where experts have a key of their own, else of each layer.
void set_widths(GgufMetadata& keys, const std::string& key, const Architecture& a, const Family& family) {
  const bool own_width = family.gguf != "llama" && family.gguf != "olmoe";
  std::vector<uint32_t> widths;
  for (const ArchitectureLayer& layer : a.layers) {
    if (!layer.routed || !own_width)
      widths.push_back(checked_cast<uint32_t>(layer.routed ? layer.routed->width : layer.dense_width, key));
  }
  if (widths.empty()) return set_size(keys, key, a.first_routed()->width);
  if (std::ranges::all_of(widths, [&](uint32_t w) { return w == widths[0]; }))
    return keys.set(key, widths[0]);
  keys.set(key, widths);
}

}  // namespace

void set_architecture(GgufMetadata& keys, const Architecture& a) {
  const Family& family = *find_family(a.family);
  const std::string p = family.gguf + ".";
  keys.set("general.architecture", family.gguf);
  if (!a.name.empty()) keys.set("general.name", a.name);
  keys.set(kOwnFamily, family.model_type);
  set_size(keys, p + "block_count", a.num_layers());
  set_size(keys, p + "context_length", a.max_positions);
  set_size(keys, p + "embedding_length", a.hidden_size);
  set_widths(keys, p + "feed_forward_length", a, family);
  set_size(keys, p + "vocab_size", a.vocab_size);
  set_attention(keys, p, a);
  set_rotary(keys, p, a.rotary, a.rotary_width());
  const auto slides = std::ranges::find_if(a.layers, [](const ArchitectureLayer& l) { return l.window > 0; });
  if (slides != a.layers.end()) set_size(keys, p + "attention.sliding_window", slides->window);
  set_routed(keys, p, a, family);
}

std::map<std::string, std::vector<float>> rotary_tensors(const Architecture& a) {
  if (a.rotary.scaling == RotaryScaling::kLlama3)
    return {{"rope_freqs.weight", llama3_divisors(a.rotary, a.rotary_width())}};
  if (a.rotary.scaling != RotaryScaling::kLongRope) return {};
  return {{"rope_factors_long.weight", {a.rotary.long_factors.begin(), a.rotary.long_factors.end()}},
          {"rope_factors_short.weight", {a.rotary.short_factors.begin(), a.rotary.short_factors.end()}}};
}

std::vector<std::string> beyond_llama_cpp(const Architecture& a) {
  std::vector<std::string> beyond;
  const Family& family = *find_family(a.family);
  if (a.first_routed() && (!a.uniform_experts() || !is_told_by_number(a, family)))
    beyond.emplace_back(
        "layers with other numbers of experts, or of experts a token, or dense ones among them");
  if (a.family == "olmoe" && a.num_kv_heads != a.num_heads)
    beyond.emplace_back("OLMoE with fewer key-value heads than heads");
  const auto slides = [](const ArchitectureLayer& layer) { return layer.window > 0; };
  if (a.family != "gpt_oss" && std::ranges::any_of(a.layers, slides))
    beyond.emplace_back("a sliding window (llama.cpp looks at everything)");
  if (a.clip_qkv > 0) beyond.emplace_back("clipped queries, keys and values (llama.cpp doesn't clip)");
  if (a.rotary.scaling == RotaryScaling::kYarn && !a.rotary.truncate)
    beyond.emplace_back("YaRN between fractions of dimensions (llama.cpp rounds to whole ones)");
  // It takes 26 and 27 layers for a sign of it.
  if (a.latent && a.latent->query_rank == 0 && a.num_layers() != 26 && a.num_layers() != 27)
    beyond.emplace_back("latent attention with a single query matrix, but for 26 or 27 layers");
  const RoutedSpec* routed = a.first_routed();
  if (routed && family.gguf != "deepseek2" && family.gguf != "gpt-oss" &&
      routed->renormalise != family.renormalise)
    beyond.emplace_back(routed->renormalise ? "expert weights divided by their sum (llama.cpp leaves them)"
                                            : "expert weights as they are (llama.cpp divides by their sum)");
  if (a.family == "deepseek_v2" && routed && routed->num_groups > 1)
    beyond.emplace_back(
        "groups of experts ranked by their best one (llama.cpp takes the sum of the two best)");
  return beyond;
}

}  // namespace gatewright

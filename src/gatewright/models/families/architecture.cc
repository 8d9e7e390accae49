#include "gatewright/models/families/architecture.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/words.h"

namespace gatewright {

const RoutedSpec* Architecture::first_routed() const {
  for (const ArchitectureLayer& layer : layers) {
    if (layer.routed) return &*layer.routed;
  }
  return nullptr;
}

bool Architecture::uniform_experts() const {
  const RoutedSpec* first = first_routed();
  return std::ranges::all_of(layers, [&](const ArchitectureLayer& layer) {
    return !layer.routed ||
           (layer.routed->num_experts == first->num_experts && layer.routed->top_k == first->top_k);
  });
}

int64_t Architecture::leading_dense_layers() const {
  const auto is_routed = [](const ArchitectureLayer& layer) { return layer.routed.has_value(); };
  const auto first = std::ranges::find_if(layers, is_routed);
  return std::all_of(first, layers.end(), is_routed) ? first - layers.begin() : -1;
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {.model_type = "llama", .class_name = "LlamaForCausalLM", .gguf = "llama", .permuted_rotary = true},
      {.model_type = "mistral", .class_name = "MistralForCausalLM", .gguf = "llama", .permuted_rotary = true},
      {.model_type = "mixtral",
       .class_name = "MixtralForCausalLM",
       .gguf = "llama",
       .permuted_rotary = true,
       .renormalise = true,
       .routed_block = "block_sparse_moe",
       .expert_names = {"w1", "w3", "w2"},
       .num_experts_key = "num_local_experts"},
      {.model_type = "qwen2",
       .class_name = "Qwen2ForCausalLM",
       .gguf = "qwen2",
       .query_key_value_bias = true},
      {.model_type = "qwen3",
       .class_name = "Qwen3ForCausalLM",
       .gguf = "qwen3",
       .query_key_norm = QueryKeyNorm::kHead},
      {.model_type = "phi3", .class_name = "Phi3ForCausalLM", .gguf = "phi3"},
      {.model_type = "olmoe",
       .class_name = "OlmoeForCausalLM",
       .gguf = "olmoe",
       .query_key_norm = QueryKeyNorm::kProjection},
      {.model_type = "qwen2_moe",
       .class_name = "Qwen2MoeForCausalLM",
       .gguf = "qwen2moe",
       .query_key_value_bias = true},
      {.model_type = "qwen3_moe",
       .class_name = "Qwen3MoeForCausalLM",
       .gguf = "qwen3moe",
       .query_key_norm = QueryKeyNorm::kHead,
       .renormalise = true},
      {.model_type = "deepseek_v2",
       .class_name = "DeepseekV2ForCausalLM",
       .gguf = "deepseek2",
       .num_experts_key = "n_routed_experts"},
      {.model_type = "deepseek_v3",
       .class_name = "DeepseekV3ForCausalLM",
       .gguf = "deepseek2",
       .renormalise = true,
       .num_experts_key = "n_routed_experts"},
      {.model_type = "gpt_oss",
       .class_name = "GptOssForCausalLM",
       .gguf = "gpt-oss",
       .query_key_value_bias = true,
       .num_experts_key = "num_local_experts"},
  };
  return all;
}

const Family* find_family(const std::string& model_type) {
  const auto it = std::ranges::find(families(), model_type, &Family::model_type);
  return it == families().end() ? nullptr : &*it;
}

namespace {

using Problems = std::vector<std::string>;

template <typename... Args>
void expect(Problems& problems, bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) problems.push_back(fmt::format(format, std::forward<Args>(args)...));
}

void check_routed(Problems& problems, const RoutedSpec& r, size_t layer) {
  expect(problems, r.num_experts >= 1 && r.num_experts <= 65536, "layer {} has {} experts", layer,
         r.num_experts);
  expect(problems, r.top_k >= 1 && r.top_k <= r.num_experts,
         "layer {}: {} experts a token of {} experts; 1 to {} can be", layer, r.top_k, r.num_experts,
         r.num_experts);
  expect(problems, r.width >= 1, "layer {}: experts of width {}", layer, r.width);
  expect(problems,
         r.num_groups >= 1 && r.num_experts % std::max<int64_t>(r.num_groups, 1) == 0 && r.groups_used >= 1 &&
             r.groups_used <= r.num_groups,
         "layer {}: {} of {} groups of {} experts", layer, r.groups_used, r.num_groups, r.num_experts);
}

void check_attention(Problems& problems, const Architecture& a) {
  expect(problems,
         a.num_heads >= 1 && a.num_kv_heads >= 1 && a.num_heads % std::max<int64_t>(a.num_kv_heads, 1) == 0,
         "{} heads and {} key-value heads: the first must be a multiple of the second", a.num_heads,
         a.num_kv_heads);
  expect(problems, a.head_dim >= 2 && a.head_dim % 2 == 0, "heads of {} values: an even number is needed",
         a.head_dim);
  if (!a.latent) return;
  const LatentAttentionSpec& l = *a.latent;
  expect(problems,
         l.key_value_rank >= 1 && l.nope_dim >= 1 && l.rope_dim >= 2 && l.rope_dim % 2 == 0 &&
             l.value_dim >= 1 && l.query_rank >= 0,
         "latent attention of ranks {} and {}, head parts {}, {} and {}", l.query_rank, l.key_value_rank,
         l.nope_dim, l.rope_dim, l.value_dim);
}

}  // namespace

void check_architecture(const Architecture& a, const std::string& what) {
  constexpr int64_t kLargest = int64_t{1} << 24;
  Problems problems;
  for (const auto& [name, size] : {std::pair("vocabulary", a.vocab_size), {"hidden size", a.hidden_size}})
    expect(problems, size >= 1 && size <= kLargest, "the {} is {}; 1 to {} can be", name, size, kLargest);
  expect(problems, !a.layers.empty(), "there are no layers");
  expect(problems, a.rms_norm_eps > 0, "the norm's epsilon is {}, it must be positive", a.rms_norm_eps);
  check_attention(problems, a);
  for (size_t i = 0; i < a.layers.size(); ++i) {
    const ArchitectureLayer& layer = a.layers[i];
    if (layer.routed)
      check_routed(problems, *layer.routed, i);
    else
      expect(problems, layer.dense_width >= 1, "layer {}: a feed-forward of width {}", i, layer.dense_width);
    expect(problems, layer.window >= 0, "layer {}: a window of {} positions", i, layer.window);
  }
  if (problems.empty()) return;
  fail("{} can't be a model: {}", what, first_of(problems, 6));
}

}  // namespace gatewright

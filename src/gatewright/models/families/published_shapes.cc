#include "gatewright/models/families/published_shapes.h"

#include <fmt/format.h>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"

namespace gatewright {
namespace {

/// A family with its habits; `dense` layers of that width come before the routed ones.
Architecture shape(const std::string& family, int64_t layers, const RoutedSpec& experts, int64_t dense = 0,
                   int64_t dense_width = 0) {
  const Family& habits = *find_family(family);
  Architecture a{.family = family,
                 .name = "",
                 .query_key_norm = habits.query_key_norm,
                 .query_key_value_bias = habits.query_key_value_bias};
  a.layers.assign(static_cast<size_t>(dense), {.dense_width = dense_width});
  a.layers.resize(static_cast<size_t>(layers), {.routed = experts});
  return a;
}

void set_sizes(Architecture& a, int64_t vocab, int64_t hidden, int64_t heads, int64_t kv_heads,
               int64_t head_dim, int64_t positions) {
  a.vocab_size = vocab;
  a.hidden_size = hidden;
  a.num_heads = heads;
  a.num_kv_heads = kv_heads;
  a.head_dim = head_dim;
  a.max_positions = positions;
}

Architecture olmoe() {
  Architecture a = shape("olmoe", 16, {.num_experts = 64, .top_k = 8, .width = 1024});
  set_sizes(a, 50304, 2048, 16, 16, 128, 4096);
  a.rms_norm_eps = 1e-5;
  return a;
}

Architecture mixtral() {
  Architecture a = shape("mixtral", 32, {.num_experts = 8, .top_k = 2, .width = 14336, .renormalise = true});
  set_sizes(a, 32000, 4096, 32, 8, 128, 32768);
  a.rms_norm_eps = 1e-5;
  a.rotary.theta = 1e6;
  return a;
}

Architecture qwen2_moe() {
  Architecture a =
      shape("qwen2_moe", 24,
            {.num_experts = 60, .top_k = 4, .width = 1408, .shared_width = 5632, .shared_gate = true});
  set_sizes(a, 151936, 2048, 16, 16, 128, 8192);
  a.rotary.theta = 1e6;
  return a;
}

Architecture qwen3_moe() {
  Architecture a =
      shape("qwen3_moe", 48, {.num_experts = 128, .top_k = 8, .width = 768, .renormalise = true});
  set_sizes(a, 151936, 2048, 32, 4, 128, 40960);
  a.rotary.theta = 1e6;
  return a;
}

Architecture deepseek_v2_lite() {
  Architecture a = shape("deepseek_v2", 27,
                         {.num_experts = 64, .top_k = 6, .width = 1408, .shared_width = 2816}, 1, 10944);
  set_sizes(a, 102400, 2048, 16, 16, 192, 163840);
  a.latent = LatentAttentionSpec{.key_value_rank = 512, .nope_dim = 128, .rope_dim = 64, .value_dim = 128};
  a.rotary = {.theta = 10000,
              .scaling = RotaryScaling::kYarn,
              .factor = 40,
              .original_positions = 4096,
              .mscale = 0.707,
              .mscale_all_dim = 0.707};
  return a;
}

Architecture gpt_oss() {
  RoutedSpec experts{.num_experts = 32, .top_k = 4, .width = 2880};
  experts.softmax_chosen = experts.router_bias = experts.biases = true;
  Architecture a = shape("gpt_oss", 24, experts);
  set_sizes(a, 201088, 2880, 64, 8, 64, 131072);
  a.rms_norm_eps = 1e-5;
  a.output_bias = a.attention_sinks = a.clamped_swiglu = true;
  a.rotary = {.theta = 150000,
              .scaling = RotaryScaling::kYarn,
              .factor = 32,
              .original_positions = 4096,
              .truncate = false};
  for (size_t i = 0; i < a.layers.size(); i += 2) a.layers[i].window = 128;
  return a;
}

}  // namespace

const std::vector<PublishedShape>& published_shapes() {
  static const std::vector<PublishedShape> shapes = {
      {"olmoe-1b-7b", "Muennighoff et al. 2024, OLMoE, table 1", olmoe()},
      {"mixtral-8x7b", "Jiang et al. 2024, Mixtral of Experts, table 1", mixtral()},
      {"qwen1.5-moe-a2.7b", "Qwen Team 2024, Qwen1.5-MoE-A2.7B, config.json", qwen2_moe()},
      {"qwen3-30b-a3b", "Qwen Team 2025, Qwen3 Technical Report, table 2", qwen3_moe()},
      {"deepseek-v2-lite", "DeepSeek-AI 2024, DeepSeek-V2, appendix B", deepseek_v2_lite()},
      {"gpt-oss-20b", "OpenAI 2025, gpt-oss model card, table 1", gpt_oss()},
  };
  return shapes;
}

const PublishedShape& published_shape(const std::string& name) {
  std::vector<std::string> names;
  for (const PublishedShape& s : published_shapes()) {
    if (s.name == name) return s;
    names.push_back(s.name);
  }
  throw UsageError(fmt::format("there is no published shape '{}'{}", name, did_you_mean(name, names)));
}

}  // namespace gatewright

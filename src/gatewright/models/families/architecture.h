// A published decoder in plain values, whatever file describes it: what config.json and the keys of a GGUF
// file say, before any tensor exists. No LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/layers/rotary_frequencies.h"

namespace gatewright {

/// More are taken for damage.
inline constexpr int64_t kMostLayers = 1024;

/// Where queries and keys are normalised before the rotary embedding.
enum class QueryKeyNorm {
  kNone,
  kHead,        // each head by itself (Qwen3)
  kProjection,  // the whole projection (OLMoE)
};

/// Multi-head latent attention (DeepSeek-V2 2024, section 2.1): keys and values from one small vector a
/// token.
struct LatentAttentionSpec {
  int64_t query_rank = 0;      // inner width of the query's two matrices; 0: one matrix
  int64_t key_value_rank = 0;  // width of the vector that keys and values are made from
  int64_t nope_dim = 0;        // of a head, without position
  int64_t rope_dim = 0;        // of a head, with position; of the key one for all heads
  int64_t value_dim = 0;       // of a head

  bool operator==(const LatentAttentionSpec&) const = default;
};

/// How the experts of one layer are chosen and what they are.
struct RoutedSpec {
  int64_t num_experts = 0;
  int64_t top_k = 0;
  int64_t width = 0;            // of one expert
  bool sigmoid = false;         // scores: sigmoid instead of softmax over all experts
  bool softmax_chosen = false;  // weights: softmax over the chosen logits (GPT-OSS)
  bool renormalise = false;     // weights: divided by their sum
  double scale = 1;             // factor of the weights
  int64_t num_groups = 1;       // of experts; 1: no groups
  int64_t groups_used = 1;      // that a token may visit
  bool group_by_best = true;    // a group's score: its best expert, or the sum of its two best
  bool router_bias = false;     // the router's logits have a bias
  bool selection_bias = false;  // a bias on the choice only (DeepSeek-V3)
  bool biases = false;          // the experts' matrices have biases
  int64_t shared_width = 0;     // of the shared experts, which are one feed-forward; 0: none
  bool shared_gate = false;     // their output is multiplied by a sigmoid gate of its own (Qwen2-MoE)

  bool operator==(const RoutedSpec&) const = default;
};

struct ArchitectureLayer {
  int64_t dense_width = 0;  // of a dense SwiGLU, when not routed
  std::optional<RoutedSpec> routed = {};
  int64_t window = 0;  // positions a query looks back, itself included; 0: all

  bool operator==(const ArchitectureLayer&) const = default;
};

struct Architecture {
  std::string family;  // Hugging Face's model_type: "llama", "qwen3_moe", ...
  std::string name;    // what the file calls the model, or ""
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  bool query_key_value_bias = false;
  bool output_bias = false;      // of the attention's output projection
  bool attention_sinks = false;  // a learned logit for each head in the softmax's sum (GPT-OSS)
  bool clamped_swiglu = false;   // the experts' activation of GPT-OSS
  double clip_qkv = 0;           // queries, keys and values are clamped to +- this; 0: not
  std::optional<LatentAttentionSpec> latent = {};
  RotarySpec rotary = {};
  std::vector<ArchitectureLayer> layers = {};

  int64_t num_layers() const { return static_cast<int64_t>(layers.size()); }
  /// The first routed layer's, or null in a dense model.
  const RoutedSpec* first_routed() const;
  /// Whether all routed layers have as many experts, and as many of them a token.
  bool uniform_experts() const;
  /// Dense layers that come before the first routed one; -1 when there are others, too.
  int64_t leading_dense_layers() const;
  /// Values of a head that the rotary embedding turns.
  int64_t rotary_width() const { return latent ? latent->rope_dim : head_dim; }
};

/// Names and habits of one family.
struct Family {
  std::string model_type;  // in config.json
  std::string class_name;  // its `architectures`
  std::string gguf;        // general.architecture
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  bool query_key_value_bias = false;
  bool permuted_rotary = false;  // GGUF stores rows of q and k in interleaved order, Hugging Face in halves
  bool renormalise = false;      // where the file does not say
  std::string routed_block = "mlp";  // "model.layers.0." + this + ".experts.0."
  std::vector<std::string> expert_names = {"gate_proj", "up_proj", "down_proj"};
  std::string num_experts_key = "num_experts";  // in config.json
};

/// All families, in the order of the documentation.
const std::vector<Family>& families();
/// By model_type; null when it is not known.
const Family* find_family(const std::string& model_type);

/// The layer's and the whole model's sizes are positive and agree; every problem in one error that begins
/// with `what`.
void check_architecture(const Architecture& architecture, const std::string& what);

}  // namespace gatewright

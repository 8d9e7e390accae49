// A decoder-only language model in plain values: what a recipe or a config.json says, before any tensor
// exists.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/models/families/architecture.h"
#include "gatewright/routing/rounds.h"
#include "gatewright/routing/router.h"

namespace gatewright {

/// The feed-forward half of one layer: dense, or a router and a bank of experts.
struct FeedForwardSpec {
  bool routed = false;
  int64_t dense_width = 0;  // of a dense SwiGLU
  int64_t num_experts = 0;
  Piece experts = {};  // expert bank by name
  std::vector<Piece> expert_decorators = {};
  RouterSpec router = {};
  RoundsSpec rounds = {};
};

/// Attention whose heads are experts (Union of Experts): a router gives each token its heads.
struct SelectiveAttentionSpec {
  RouterSpec router = {};              // over num_heads experts
  bool subsequence_positions = false;  // rotary positions count a head's own tokens
  double init = 0;                     // standard deviation of the initial weights; 0: Xavier's for one head
};

struct DecoderSpec {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 4096;       // recorded in config.json; rotary tables grow as needed
  int64_t sliding_window = 0;         // positions a query looks back, itself included; 0 = all
  std::vector<int64_t> windows = {};  // of each layer, instead of sliding_window; empty: the same in all
  RotarySpec rotary = {};
  double rms_norm_eps = 1e-5;
  double initializer_range = 0.02;  // standard deviation of normal initial weights
  QueryKeyNorm query_key_norm = QueryKeyNorm::kProjection;
  bool query_key_value_bias = false;
  bool output_bias = false;      // of the attention's output projection
  bool attention_sinks = false;  // a learned logit for each head in the softmax's sum (GPT-OSS)
  double clip_qkv = 0;           // queries, keys and values are clamped to +- this; 0: not
  std::optional<LatentAttentionSpec> latent = {};  // multi-head latent attention; none: plain
  bool tie_word_embeddings = false;
  std::optional<SelectiveAttentionSpec> selective_attention = {};  // of all layers; none: plain attention
  std::vector<FeedForwardSpec> layers = {};

  /// The family that the model was read as and is written as; none: our own kind of folder.
  std::string family = {};

  int64_t num_layers() const { return static_cast<int64_t>(layers.size()); }
  int64_t window(int64_t layer) const {
    return windows.empty() ? sliding_window : windows[static_cast<size_t>(layer)];
  }
  /// Values of a head that the rotary embedding turns.
  int64_t rotary_width() const { return latent ? latent->rope_dim : head_dim; }
};

/// A projection of a layer's attention that has LoRA experts.
struct AdaptedProjection {
  std::string name;  // as in files: "q_proj"
  int64_t in = 0, out = 0;
};
/// Those that `adapted` of the layer's bank names, in the order in which they are computed.
std::vector<AdaptedProjection> adapted_projections(const DecoderSpec& spec, const FeedForwardSpec& layer);

/// Fails (UsageError) with every disagreement between the values: heads that do not divide, no layers, odd
/// head_dim, more experts per token than experts, groups that do not divide the experts.
void validate(const DecoderSpec& spec);

struct ParameterCounts {
  int64_t total = 0;
  int64_t active = 0;  // those a token's forward pass uses, with `experts_per_token` experts in each routed
                       // layer and round, which count as different experts
};

/// Counted from the shapes; embedding and head included, as in published figures.
/// @param open_experts  experts per token in layers whose selector does not fix it; all when not given
ParameterCounts count_parameters(const DecoderSpec& spec, std::optional<double> open_experts = {});
/// Active parameters when tokens visit `experts_per_token` experts on average, over those of the same model
/// with `reference` experts a token, in layers whose selector leaves the number open.
double relative_active_parameters(const DecoderSpec& spec, double experts_per_token, double reference = 2);
/// Experts per token and round of a router's selector where it is fixed by its parameters, else `otherwise`.
double experts_per_token(const FeedForwardSpec& layer, double otherwise);
/// The same of a router over so many experts.
double experts_per_token(const RouterSpec& router, int64_t num_experts, double otherwise);
/// Parameters of one expert of a layer's bank, and of what its decorators add for every token.
int64_t expert_parameters(const FeedForwardSpec& layer, int64_t hidden_size);
int64_t shared_parameters(const FeedForwardSpec& layer, int64_t hidden_size);

}  // namespace gatewright

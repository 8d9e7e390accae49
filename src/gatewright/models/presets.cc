#include "gatewright/models/presets.h"

#include "gatewright/experts/registry.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/scorer.h"

namespace gatewright {
namespace {

struct Shape {
  int64_t vocab_size, hidden_size, layers, heads, kv_heads, head_dim;
  int64_t experts, width, top_k;  // experts = 0: dense of this width
  bool tied = false;
  QueryKeyNorm norm = QueryKeyNorm::kProjection;
  choice::Weighting weighting = choice::Weighting::kAsIs;
  double rope_theta = 10000.0;
};

template <typename Entries>
Piece piece(const Entries& registry, const std::string& name, std::map<std::string, Value> given = {}) {
  return {.name = name, .values = Values(registry.at(name).spec.parameters, given, name)};
}

FeedForwardSpec feed_forward(const Shape& shape) {
  if (shape.experts == 0) return {.routed = false, .dense_width = shape.width};
  FeedForwardSpec layer{.routed = true, .num_experts = shape.experts};
  layer.experts = piece(expert_banks(), "swiglu", {{"width", shape.width}});
  layer.router = {.scorer = piece(scorers(), "linear"),
                  .selector = piece(choice::selectors(), "top_k", {{"top_k", shape.top_k}}),
                  .weights = {.weighting = shape.weighting},
                  .balance = {piece(balance_terms(), "switch"), piece(balance_terms(), "z_loss")}};
  return layer;
}

PresetFactory preset(const Shape& shape) {
  return [shape](int64_t vocab_size) {
    DecoderSpec spec{.vocab_size = vocab_size > 0 ? vocab_size : shape.vocab_size,
                     .hidden_size = shape.hidden_size,
                     .num_heads = shape.heads,
                     .num_kv_heads = shape.kv_heads,
                     .head_dim = shape.head_dim,
                     .rotary = {.theta = shape.rope_theta},
                     .query_key_norm = shape.norm,
                     .tie_word_embeddings = shape.tied};
    spec.layers.assign(static_cast<size_t>(shape.layers), feed_forward(shape));
    return spec;
  };
}

}  // namespace

const Registry<PresetFactory>& model_presets() {
  static const Registry<PresetFactory> registry(
      "model preset",
      {
          {{.name = "tiny",
            .summary = "1M parameters, 4 layers, 8 experts, top-2: seconds to train",
            .source = "sizes of ours",
            .formula = ""},
           preset({1024, 64, 4, 4, 4, 16, 8, 128, 2, true})},
          {{.name = "tiny-dense",
            .summary = "the dense model with tiny's active parameters",
            .source = "sizes of ours",
            .formula = ""},
           preset({1024, 64, 4, 4, 4, 16, 0, 256, 0, true})},
          {{.name = "mini",
            .summary = "10M parameters, 6 layers, 8 experts, top-2: minutes on a laptop",
            .source = "sizes of ours",
            .formula = ""},
           preset({4096, 192, 6, 6, 6, 32, 8, 256, 2, true})},
          {{.name = "mini-dense",
            .summary = "the dense model with mini's active parameters",
            .source = "sizes of ours",
            .formula = ""},
           preset({4096, 192, 6, 6, 6, 32, 0, 512, 0, true})},
          {{.name = "small",
            .summary = "100M parameters, 8 layers, 16 experts, top-2",
            .source = "sizes of ours",
            .formula = ""},
           preset({16384, 512, 8, 8, 8, 64, 16, 448, 2, true})},
          {{.name = "medium",
            .summary = "500M parameters, 12 layers, 32 experts, top-4",
            .source = "sizes of ours",
            .formula = ""},
           preset({32768, 768, 12, 12, 12, 64, 32, 512, 4, true})},
          {{.name = "olmoe-1b-7b",
            .summary = "OLMoE-1B-7B: 6.9B parameters, 1.3B active, 16 layers, 64 experts, top-8",
            .source = "Muennighoff et al. 2024, OLMoE, table 1",
            .formula = ""},
           preset({50304, 2048, 16, 16, 16, 128, 64, 1024, 8})},
          {{.name = "mixtral-8x7b",
            .summary = "Mixtral-8x7B: 46.7B parameters, 12.9B active, 32 layers, 8 experts, top-2",
            .source = "Jiang et al. 2024, Mixtral of Experts, table 1",
            .formula = ""},
           preset({32000, 4096, 32, 32, 8, 128, 8, 14336, 2, false, QueryKeyNorm::kNone,
                   choice::Weighting::kRenormalised, 1e6})},
          {{.name = "qwen3-30b-a3b",
            .summary = "Qwen3-30B-A3B: 30.5B parameters, 3.3B active, 48 layers, 128 experts, top-8",
            .source = "Qwen Team 2025, Qwen3 Technical Report, table 2",
            .formula = ""},
           preset({151936, 2048, 48, 32, 4, 128, 128, 768, 8, false, QueryKeyNorm::kHead,
                   choice::Weighting::kRenormalised, 1e6})},
      });
  return registry;
}

}  // namespace gatewright

#include "gatewright/models/configuration.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "gatewright/base/checked.h"
#include "gatewright/experts/feed_forward.h"

namespace gatewright {
namespace {

using Problems = std::vector<std::string>;

template <typename... Args>
void expect(Problems& problems, bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) problems.push_back(fmt::format(format, std::forward<Args>(args)...));
}

/// Inner width of the feed-forward that is cut into experts.
int64_t union_width(const Values& values, int64_t hidden) {
  const bool gated = values.text("activation") == "swiglu";
  return values.integer("width") ? values.integer("width")
                                 : default_ffn_width(hidden, gated ? Activation::swiglu : Activation::gelu);
}

/// Rounds and what goes with them.
void check_rounds(Problems& problems, const FeedForwardSpec& layer) {
  const int64_t rounds = layer.rounds.rounds;
  expect(problems, rounds >= 1,
         "rounds = {}, but a layer routes at least once; rounds = 1 is the ordinary layer", rounds);
  expect(
      problems, rounds <= 1 || layer.router.scorer.name != "hash",
      "rounds = {} let later choices depend on what earlier experts made of a token, and scorer = \"hash\" "
      "looks at the token's id only: every round would choose the same experts; take scorer = \"linear\", or "
      "rounds = 1",
      rounds);
}

/// Expert banks and what goes with them.
void check_bank(Problems& problems, const FeedForwardSpec& layer, int64_t hidden) {
  if (layer.experts.name != "mlp_union" || layer.num_experts < 1) return;
  const int64_t width = union_width(layer.experts.values, hidden);
  expect(problems, width % layer.num_experts == 0,
         "bank = \"mlp_union\" cuts a feed-forward of width = {} into num_experts = {} equal slices, which "
         "do not divide it; give a width that is a multiple of {}",
         width, layer.num_experts, layer.num_experts);
}

Problems layer_problems(const FeedForwardSpec& layer, int64_t hidden) {
  Problems problems;
  if (layer.routed) {
    problems = router_problems(layer.router, layer.num_experts);
    check_rounds(problems, layer);
    check_bank(problems, layer, hidden);
    return problems;
  }
  expect(problems, layer.dense_width > 0, "a dense layer needs an intermediate_size");
  return problems;
}

/// Each problem once, with all layers that have it.
void check_layers(Problems& problems, const std::vector<FeedForwardSpec>& layers, int64_t hidden) {
  std::vector<std::pair<std::string, std::vector<size_t>>> found;
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const std::string& problem : layer_problems(layers[i], hidden)) {
      auto it = std::ranges::find(found, problem, &decltype(found)::value_type::first);
      if (it == found.end()) it = found.insert(found.end(), {problem, {}});
      it->second.push_back(i);
    }
  }
  for (const auto& [problem, where] : found)
    problems.push_back(
        fmt::format("layer{} {}: {}", where.size() > 1 ? "s" : "", fmt::join(where, ", "), problem));
}

/// Whether what the router makes of a layer goes into its choice in the next one.
bool hands_on(const RouterSpec& router) {
  return router.scorer.name == "recurrent" || find_piece(router.decorators, "residual_logits");
}

void check_selective_attention(Problems& problems, const DecoderSpec& s) {
  if (!s.selective_attention) return;
  const RouterSpec& router = s.selective_attention->router;
  for (const std::string& problem : router_problems(router, s.num_heads))
    problems.push_back("attention: " + problem);
  expect(
      problems, s.num_kv_heads == s.num_heads,
      "attention = \"selective\" needs keys and values of its own for each head, and num_kv_heads = {} of {} "
      "heads; leave num_kv_heads out",
      s.num_kv_heads, s.num_heads);
  expect(problems, s.query_key_norm != QueryKeyNorm::kProjection,
         "attention = \"selective\" computes a token's own heads only, and qk_norm = \"projection\" needs "
         "all of them; set qk_norm = \"head\" or \"none\"");
  expect(problems, !hands_on(router),
         "attention: scorers that hand something to the next layer (recurrent, residual_logits) are for "
         "experts; take scorer = \"linear\" in [attention]");
}

void check_attention_adapters(Problems& problems, const DecoderSpec& s) {
  const auto adapted = std::ranges::find_if(
      s.layers, [&](const FeedForwardSpec& layer) { return !adapted_projections(s, layer).empty(); });
  if (adapted == s.layers.end()) return;
  const char* kWay = "leave q, k, v and o out of experts.adapted";
  expect(problems, !s.selective_attention,
         "adapters on the attention's projections need plain attention, and it is \"selective\"; {}", kWay);
  expect(problems, !s.latent,
         "adapters on the attention's projections need plain attention, and it is latent; {}", kWay);
  expect(problems, !hands_on(adapted->router),
         "scorers that hand something to the next layer (recurrent, residual_logits) are for experts of "
         "feed-forwards; take scorer = \"linear\", or {}",
         kWay);
}

void check_network(Problems& problems, const std::vector<FeedForwardSpec>& layers) {
  std::vector<RoutedLayer> routed;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].routed)
      routed.push_back({.layer = static_cast<int64_t>(i),
                        .num_experts = layers[i].num_experts,
                        .router = &layers[i].router});
  }
  for (std::string& problem : network_problems(routed)) problems.push_back(std::move(problem));
}

/// A number of parameters. Sizes come from files, so arithmetic that would wrap is an error.
struct Count {
  int64_t value = 0;

  Count(int64_t number) : value(number) {}
  friend Count operator*(Count a, Count b) { return checked_mul(a.value, b.value, kWhat); }
  friend Count operator+(Count a, Count b) { return checked_add(a.value, b.value, kWhat); }
  Count& operator+=(Count other) { return *this = *this + other; }

  static constexpr std::string_view kWhat = "the model's number of parameters";
};

/// Of the matrices and norms of latent attention.
Count latent_parameters(const DecoderSpec& s, const LatentAttentionSpec& l) {
  const Count heads = s.num_heads, queries = heads * (l.nope_dim + l.rope_dim);
  const Count query =
      l.query_rank > 0 ? l.query_rank * (queries + s.hidden_size + 1) : queries * s.hidden_size;
  return query + s.hidden_size * (Count(l.key_value_rank) + l.rope_dim) + l.key_value_rank +
         l.key_value_rank * (heads * (l.nope_dim + l.value_dim)) + s.hidden_size * (heads * l.value_dim);
}

/// Of the attention's biases and sinks.
Count attention_bias_parameters(const DecoderSpec& s) {
  Count count = s.attention_sinks ? s.num_heads : 0;
  if (s.query_key_value_bias) count += (Count(s.num_heads) + 2 * s.num_kv_heads) * s.head_dim;
  if (s.output_bias) count += s.hidden_size;
  return count;
}

/// Of the projections of all heads.
Count head_parameters(const DecoderSpec& s) {
  const Count query = Count(s.num_heads) * s.head_dim, key = Count(s.num_kv_heads) * s.head_dim;
  return Count(s.hidden_size) * (2 * query + 2 * key);
}

Count attention_norm_parameters(const DecoderSpec& s) {
  if (s.query_key_norm == QueryKeyNorm::kHead) return 2 * Count(s.head_dim);
  if (s.query_key_norm == QueryKeyNorm::kNone) return 0;
  return Count(s.num_heads) * s.head_dim + Count(s.num_kv_heads) * s.head_dim;
}

Count scorer_parameters(const Piece& scorer, Count experts, Count hidden) {
  if (scorer.name == "linear") return experts * hidden + (scorer.values.flag("bias") ? experts : 0);
  if (scorer.name == "cosine") return scorer.values.integer("projection_size") * (hidden + experts) + 1;
  if (scorer.name == "mlp") return scorer.values.integer("router_width") * (hidden + 1 + experts) + experts;
  if (scorer.name == "recurrent") {
    const Count size = scorer.values.integer("recurrent_size");
    return size * experts + (scorer.values.flag("shared_projector") ? Count(0) : size * hidden);
  }
  if (scorer.name == "fixed_linear") return experts * (hidden + 1);
  if (scorer.name == "patch_linear") return experts * (scorer.values.integer("patch_length") * hidden + 1);
  if (scorer.name == "mixture") return scorer.values.integer("num_routers") * (experts + 1) * hidden;
  return 0;
}

/// Of the modules that the routers of all layers share.
Count shared_router_parameters(const DecoderSpec& s) {
  const auto recurrent = std::ranges::find_if(
      s.layers, [](const FeedForwardSpec& l) { return l.routed && l.router.scorer.name == "recurrent"; });
  if (recurrent == s.layers.end()) return 0;
  const Values& v = recurrent->router.scorer.values;
  const Count size = v.integer("recurrent_size"), gates = v.text("cell") == "gru" ? 3 : 1;
  return 2 * (gates * (size * size + size)) + (v.flag("shared_projector") ? size * s.hidden_size : Count(0));
}

/// Of the scorer and of noise whose size is learned.
Count router_parameters(const RouterSpec& router, Count experts, Count hidden) {
  Count count = scorer_parameters(router.scorer, experts, hidden);
  if (router.activation == choice::Activation::kReluRms) count += experts;  // its gain
  for (const Piece& d : router.decorators) {
    if (d.name == "noise" && d.values.flag("learned")) count += experts * hidden;
  }
  return count;
}

Count ffn_parameters(const std::string& activation, const Values& values, int64_t hidden_size,
                     int64_t copies) {
  const bool gated = activation == "swiglu" || activation == "clamped_swiglu";
  const int64_t given = values.integer("width");
  const Count width =
      copies *
      Count(given ? given : default_ffn_width(hidden_size, gated ? Activation::swiglu : Activation::gelu));
  const int64_t matrices = gated ? 3 : 2;
  return matrices * (hidden_size * width) +
         (values.flag("biases") ? (matrices - 1) * width + hidden_size : 0);
}

/// Those of a layer's attention: all, and those a token uses.
struct AttentionParameters {
  Count total = 0, active = 0;
};

AttentionParameters attention_parameters(const DecoderSpec& s) {
  if (s.latent) return {.total = latent_parameters(s, *s.latent), .active = latent_parameters(s, *s.latent)};
  const Count heads = head_parameters(s) + attention_bias_parameters(s), norms = attention_norm_parameters(s);
  if (!s.selective_attention) return {.total = heads + norms, .active = heads + norms};
  const RouterSpec& router = s.selective_attention->router;
  const Count always = norms + router_parameters(router, s.num_heads, s.hidden_size);
  const auto all = static_cast<double>(s.num_heads);
  const double share = experts_per_token(router, s.num_heads, all) / all;
  return {.total = heads + always,
          .active = Count(std::llround(share * static_cast<double>(heads.value))) + always};
}

/// Of the adapters of the projections and their routers, `visited` experts a token.
AttentionParameters adapter_parameters(const DecoderSpec& s, const FeedForwardSpec& layer, double visited) {
  AttentionParameters sum;
  for (const AdaptedProjection& p : adapted_projections(s, layer)) {
    const Count router = router_parameters(layer.router, layer.num_experts, p.in),
                expert = layer.experts.values.integer("rank") * (Count(p.in) + p.out);
    sum.total += router + layer.num_experts * expert;
    sum.active += router + Count(std::llround(visited * static_cast<double>(expert.value)));
  }
  return sum;
}

/// Of one expert of a bank, and of what the bank computes for every token.
struct BankParameters {
  Count expert = 0, always = 0;
};

BankParameters lora_parameters(const Values& v, int64_t hidden) {
  const Count width = v.integer("width") ? v.integer("width") : default_ffn_width(hidden, Activation::swiglu);
  const std::vector<std::string> adapted = v.texts("adapted");
  const auto maps = std::ranges::count_if(std::vector{"gate", "up", "down"}, [&](const char* map) {
    return std::ranges::count(adapted, map) > 0;
  });
  return {.expert = maps * (v.integer("rank") * (width + hidden)), .always = 3 * (width * hidden)};
}

BankParameters union_parameters(const FeedForwardSpec& layer, int64_t hidden) {
  const Values& v = layer.experts.values;
  const Count slice = union_width(v, hidden) / layer.num_experts;
  const int64_t matrices = v.text("activation") == "swiglu" ? 3 : 2;
  const bool biases = v.flag("biases");
  return {.expert = matrices * (slice * hidden) + (biases ? (matrices - 1) * slice : Count(0)),
          .always = biases ? hidden : 0};
}

BankParameters bank_parameters(const FeedForwardSpec& layer, int64_t hidden) {
  const Piece& bank = layer.experts;
  if (bank.name == "lora") return lora_parameters(bank.values, hidden);
  if (bank.name == "mlp_union") return union_parameters(layer, hidden);
  return {.expert = ffn_parameters(bank.name, bank.values, hidden, 1)};
}

}  // namespace

std::vector<AdaptedProjection> adapted_projections(const DecoderSpec& s, const FeedForwardSpec& layer) {
  if (!layer.routed || layer.experts.name != "lora") return {};
  const std::vector<std::string> adapted = layer.experts.values.texts("adapted");
  const int64_t query = s.num_heads * s.head_dim, key = s.num_kv_heads * s.head_dim;
  std::vector<AdaptedProjection> all = {{.name = "q_proj", .in = s.hidden_size, .out = query},
                                        {.name = "k_proj", .in = s.hidden_size, .out = key},
                                        {.name = "v_proj", .in = s.hidden_size, .out = key},
                                        {.name = "o_proj", .in = query, .out = s.hidden_size}};
  std::erase_if(
      all, [&](const AdaptedProjection& p) { return std::ranges::count(adapted, p.name.substr(0, 1)) == 0; });
  return all;
}

void validate(const DecoderSpec& s) {
  Problems problems;
  expect(problems, s.vocab_size > 0, "vocab_size must be positive, got {}", s.vocab_size);
  expect(problems, s.hidden_size > 0, "hidden_size must be positive, got {}", s.hidden_size);
  expect(problems, s.head_dim > 0 && s.head_dim % 2 == 0,
         "head_dim must be even, got {} (the rotary embedding turns pairs)", s.head_dim);
  expect(problems, s.num_kv_heads > 0 && s.num_heads > 0 && s.num_heads % s.num_kv_heads == 0,
         "num_attention_heads = {} must be a multiple of num_key_value_heads = {}", s.num_heads,
         s.num_kv_heads);
  expect(problems, !s.layers.empty(), "the model has no layers");
  check_layers(problems, s.layers, s.hidden_size);
  check_selective_attention(problems, s);
  check_attention_adapters(problems, s);
  check_network(problems, s.layers);
  if (!problems.empty())
    throw UsageError(fmt::format("the model cannot be built: {}", fmt::join(problems, "; ")));
}

double relative_active_parameters(const DecoderSpec& spec, double experts_per_token, double reference) {
  return static_cast<double>(count_parameters(spec, experts_per_token).active) /
         static_cast<double>(count_parameters(spec, reference).active);
}

double experts_per_token(const FeedForwardSpec& layer, double otherwise) {
  return layer.routed ? experts_per_token(layer.router, layer.num_experts, otherwise) : 0;
}

double experts_per_token(const RouterSpec& router, int64_t num_experts, double otherwise) {
  const Values& v = router.selector.values;
  const auto data = std::ranges::find(router.decorators, "data_selection", &Piece::name);
  if (data != router.decorators.end() && data->values.number("share") > 0)
    return data->values.number("share") * static_cast<double>(num_experts);
  if (v.all().contains("top_k")) return static_cast<double>(v.integer("top_k"));
  if (v.all().contains("experts_per_token")) return v.number("experts_per_token");
  if (router.selector.name == "all") return static_cast<double>(num_experts);
  if (router.selector.name == "stochastic")
    return v.text("inference") == "ensemble" ? static_cast<double>(num_experts) : 1;
  if (router.selector.name == "scheduled_top_k") {
    const int64_t k = v.integer("k_inference") ? v.integer("k_inference") : v.integer("k_max");
    return static_cast<double>(k ? k : num_experts);
  }
  return otherwise;
}

int64_t expert_parameters(const FeedForwardSpec& layer, int64_t hidden_size) {
  return bank_parameters(layer, hidden_size).expert.value;
}

int64_t shared_parameters(const FeedForwardSpec& layer, int64_t hidden_size) {
  Count count = 0;
  for (const Piece& d : layer.expert_decorators) {
    if (d.name != "shared") continue;
    count +=
        ffn_parameters(d.values.text("activation"), d.values, hidden_size, d.values.integer("num_shared"));
    count += (d.values.flag("gate") ? hidden_size : 0) + (d.values.flag("own_gain") ? hidden_size : 0);
  }
  return count.value;
}

ParameterCounts count_parameters(const DecoderSpec& s, std::optional<double> open_experts) {
  const Count shared = Count(s.vocab_size) * s.hidden_size * (s.tie_word_embeddings ? 1 : 2) + s.hidden_size +
                       shared_router_parameters(s);
  Count total = shared, active = shared;
  for (const FeedForwardSpec& layer : s.layers) {
    const AttentionParameters attention = attention_parameters(s);
    total += attention.total;
    active += attention.active;
    Count always = 2 * Count(s.hidden_size);
    if (layer.routed) {
      always += layer.rounds.num_gates() * router_parameters(layer.router, layer.num_experts, s.hidden_size) +
                shared_parameters(layer, s.hidden_size) + bank_parameters(layer, s.hidden_size).always;
      const int64_t expert = expert_parameters(layer, s.hidden_size);
      const auto experts = static_cast<double>(layer.num_experts);
      const double visited = std::min(experts, static_cast<double>(layer.rounds.rounds) *
                                                   experts_per_token(layer, open_experts.value_or(experts)));
      total += Count(expert) * layer.num_experts;
      active += std::llround(visited * static_cast<double>(expert));
      const AttentionParameters adapters = adapter_parameters(s, layer, visited);
      total += adapters.total;
      active += adapters.active;
    } else {
      always += Count(3) * s.hidden_size * layer.dense_width;
    }
    total += always;
    active += always;
  }
  return {.total = total.value, .active = active.value};
}

}  // namespace gatewright

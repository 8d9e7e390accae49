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

Problems layer_problems(const FeedForwardSpec& layer) {
  Problems problems;
  if (layer.routed) {
    problems = router_problems(layer.router, layer.num_experts);
    check_rounds(problems, layer);
    return problems;
  }
  expect(problems, layer.dense_width > 0, "a dense layer needs an intermediate_size");
  return problems;
}

/// Each problem once, with all layers that have it.
void check_layers(Problems& problems, const std::vector<FeedForwardSpec>& layers) {
  std::vector<std::pair<std::string, std::vector<size_t>>> found;
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const std::string& problem : layer_problems(layers[i])) {
      auto it = std::ranges::find(found, problem, &decltype(found)::value_type::first);
      if (it == found.end()) it = found.insert(found.end(), {problem, {}});
      it->second.push_back(i);
    }
  }
  for (const auto& [problem, where] : found)
    problems.push_back(
        fmt::format("layer{} {}: {}", where.size() > 1 ? "s" : "", fmt::join(where, ", "), problem));
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

Count attention_parameters(const DecoderSpec& s) {
  const Count query = Count(s.num_heads) * s.head_dim, key = Count(s.num_kv_heads) * s.head_dim;
  Count count = Count(s.hidden_size) * (2 * query + 2 * key);
  if (s.query_key_norm == QueryKeyNorm::kHead) count += 2 * s.head_dim;
  if (s.query_key_norm == QueryKeyNorm::kProjection) count += query + key;
  return count;
}

Count scorer_parameters(const FeedForwardSpec& layer, Count hidden) {
  const Piece& scorer = layer.router.scorer;
  const Count experts = layer.num_experts;
  if (scorer.name == "linear") return experts * hidden + (scorer.values.flag("bias") ? experts : 0);
  if (scorer.name == "cosine") return scorer.values.integer("projection_size") * (hidden + experts) + 1;
  if (scorer.name == "mlp") return scorer.values.integer("router_width") * (hidden + 1 + experts) + experts;
  if (scorer.name == "recurrent") {
    const Count size = scorer.values.integer("recurrent_size");
    return size * experts + (scorer.values.flag("shared_projector") ? Count(0) : size * hidden);
  }
  if (scorer.name == "fixed_linear") return experts * (hidden + 1);
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
Count router_parameters(const FeedForwardSpec& layer, Count hidden) {
  Count count = scorer_parameters(layer, hidden);
  if (layer.router.activation == choice::Activation::kReluRms) count += layer.num_experts;  // its gain
  for (const Piece& d : layer.router.decorators) {
    if (d.name == "noise" && d.values.flag("learned")) count += layer.num_experts * hidden;
  }
  return count;
}

Count ffn_parameters(const std::string& activation, const Values& values, int64_t hidden_size,
                     int64_t copies) {
  const bool gated = activation == "swiglu";
  const int64_t given = values.integer("width");
  const Count width =
      copies *
      Count(given ? given : default_ffn_width(hidden_size, gated ? Activation::swiglu : Activation::gelu));
  const int64_t matrices = gated ? 3 : 2;
  return matrices * (hidden_size * width) +
         (values.flag("biases") ? (matrices - 1) * width + hidden_size : 0);
}

/// Of one expert of a bank, and of what the bank computes for every token.
struct BankParameters {
  Count expert = 0, always = 0;
};

BankParameters lora_parameters(const Values& v, int64_t hidden) {
  const Count width = v.integer("width") ? v.integer("width") : default_ffn_width(hidden, Activation::swiglu);
  const std::set<std::string> maps(v.texts("adapted").begin(), v.texts("adapted").end());
  return {.expert = std::ssize(maps) * (v.integer("rank") * (width + hidden)),
          .always = 3 * (width * hidden)};
}

BankParameters bank_parameters(const Piece& bank, int64_t hidden) {
  if (bank.name == "lora") return lora_parameters(bank.values, hidden);
  return {.expert = ffn_parameters(bank.name, bank.values, hidden, 1)};
}

}  // namespace

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
  check_layers(problems, s.layers);
  check_network(problems, s.layers);
  if (!problems.empty())
    throw UsageError(fmt::format("the model cannot be built: {}", fmt::join(problems, "; ")));
}

double relative_active_parameters(const DecoderSpec& spec, double experts_per_token, double reference) {
  return static_cast<double>(count_parameters(spec, experts_per_token).active) /
         static_cast<double>(count_parameters(spec, reference).active);
}

double experts_per_token(const FeedForwardSpec& layer, double otherwise) {
  if (!layer.routed) return 0;
  const Values& v = layer.router.selector.values;
  if (v.all().contains("top_k")) return static_cast<double>(v.integer("top_k"));
  if (v.all().contains("experts_per_token")) return v.number("experts_per_token");
  if (layer.router.selector.name == "all") return static_cast<double>(layer.num_experts);
  if (layer.router.selector.name == "stochastic")
    return v.text("inference") == "ensemble" ? static_cast<double>(layer.num_experts) : 1;
  if (layer.router.selector.name == "scheduled_top_k") {
    const int64_t k = v.integer("k_inference") ? v.integer("k_inference") : v.integer("k_max");
    return static_cast<double>(k ? k : layer.num_experts);
  }
  return otherwise;
}

int64_t expert_parameters(const Piece& bank, int64_t hidden_size) {
  return bank_parameters(bank, hidden_size).expert.value;
}

int64_t shared_parameters(const FeedForwardSpec& layer, int64_t hidden_size) {
  Count count = 0;
  for (const Piece& d : layer.expert_decorators) {
    if (d.name != "shared") continue;
    count +=
        ffn_parameters(d.values.text("activation"), d.values, hidden_size, d.values.integer("num_shared"));
    count += d.values.flag("gate") ? hidden_size : 0;
  }
  return count.value;
}

ParameterCounts count_parameters(const DecoderSpec& s, std::optional<double> open_experts) {
  const Count shared = Count(s.vocab_size) * s.hidden_size * (s.tie_word_embeddings ? 1 : 2) + s.hidden_size +
                       shared_router_parameters(s);
  Count total = shared, active = shared;
  for (const FeedForwardSpec& layer : s.layers) {
    Count always = attention_parameters(s) + 2 * s.hidden_size;
    if (layer.routed) {
      always += layer.rounds.num_gates() * router_parameters(layer, s.hidden_size) +
                shared_parameters(layer, s.hidden_size) +
                bank_parameters(layer.experts, s.hidden_size).always;
      const int64_t expert = expert_parameters(layer.experts, s.hidden_size);
      const auto experts = static_cast<double>(layer.num_experts);
      const double visited = std::min(experts, static_cast<double>(layer.rounds.rounds) *
                                                   experts_per_token(layer, open_experts.value_or(experts)));
      total += Count(expert) * layer.num_experts;
      active += std::llround(visited * static_cast<double>(expert));
    } else {
      always += Count(3) * s.hidden_size * layer.dense_width;
    }
    total += always;
    active += always;
  }
  return {.total = total.value, .active = active.value};
}

}  // namespace gatewright

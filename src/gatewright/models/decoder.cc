#include "gatewright/models/decoder.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"
#include "gatewright/experts/feed_forward.h"
#include "gatewright/experts/registry.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/models/published_names.h"

namespace gatewright {
namespace {

/// A projection [out, in] from the stream named after it.
Tensor projection(uint64_t seed, const std::string& name, int64_t out, int64_t in,
                  double standard_deviation) {
  RandomStream random(seed, name);
  return normal_parameter({out, in}, standard_deviation, random);
}

Tensor ones_parameter(int64_t size) { return constant_parameter({size}, 1.0); }

void add_norm(ParameterList& list, const std::string& name, const Tensor& weight) {
  if (weight.defined()) list.push_back({.name = name, .tensor = weight, .weight_decay = false});
}

struct AttentionWeights {
  Tensor query, key, value, output, query_norm, key_norm;

  AttentionWeights(const DecoderSpec& s, uint64_t seed, const std::string& prefix) {
    const int64_t q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
    query = projection(seed, prefix + "q_proj", q, s.hidden_size, s.initializer_range);
    key = projection(seed, prefix + "k_proj", kv, s.hidden_size, s.initializer_range);
    value = projection(seed, prefix + "v_proj", kv, s.hidden_size, s.initializer_range);
    output = projection(seed, prefix + "o_proj", s.hidden_size, q, s.initializer_range);
    if (s.query_key_norm == QueryKeyNorm::kNone) return;
    const bool per_head = s.query_key_norm == QueryKeyNorm::kHead;
    query_norm = ones_parameter(per_head ? s.head_dim : q);
    key_norm = ones_parameter(per_head ? s.head_dim : kv);
  }

  void collect(ParameterList& list, const std::string& prefix) const {
    list.push_back({.name = prefix + "q_proj.weight", .tensor = query});
    list.push_back({.name = prefix + "k_proj.weight", .tensor = key});
    list.push_back({.name = prefix + "v_proj.weight", .tensor = value});
    list.push_back({.name = prefix + "o_proj.weight", .tensor = output});
    add_norm(list, prefix + "q_norm.weight", query_norm);
    add_norm(list, prefix + "k_norm.weight", key_norm);
  }
};

/// Position of each token inside its document: int64 [B, S].
Tensor positions_of(const Batch& batch, int64_t already_cached) {
  const Tensor index = at::arange(batch.length(), batch.tokens.options()).unsqueeze(0) + already_cached;
  if (!batch.first_key.defined()) return index.expand_as(batch.tokens);
  return index - batch.first_key.to(at::kLong);
}

}  // namespace

struct Decoder::Layer {
  Layer(const DecoderSpec& spec, const FeedForwardSpec& feed_forward, int64_t index, uint64_t seed,
        SharedModules& shared)
      : prefix("model.layers." + std::to_string(index) + "."),
        attention(spec, seed, prefix + "self_attn."),
        input_norm(ones_parameter(spec.hidden_size)),
        post_attention_norm(ones_parameter(spec.hidden_size)),
        random(seed, "routing." + std::to_string(index)) {
    RandomStream init(seed, prefix + "mlp");
    if (!feed_forward.routed) {
      dense = make_ffn_parameters(0, spec.hidden_size,
                                  {.width = feed_forward.dense_width, .init = spec.initializer_range}, init);
      return;
    }
    const RouterSizes sizes{
        .hidden_size = spec.hidden_size, .num_experts = feed_forward.num_experts, .network = &shared};
    const RoundsSpec& of_layer = feed_forward.rounds;
    for (int64_t t = 0; t < of_layer.rounds; ++t) {
      routers.push_back(t > 0 && !of_layer.independent_gating
                            ? std::make_unique<Router>(feed_forward.router, sizes, *routers[0])
                            : std::make_unique<Router>(feed_forward.router, sizes, init));
    }
    rounds = of_layer;
    experts = make_expert_bank(
        feed_forward.experts, feed_forward.expert_decorators,
        {.hidden_size = spec.hidden_size, .num_experts = feed_forward.num_experts, .layer = index}, init);
  }

  void collect(ParameterList& list) const {
    add_norm(list, prefix + "input_layernorm.weight", input_norm);
    attention.collect(list, prefix + "self_attn.");
    add_norm(list, prefix + "post_attention_layernorm.weight", post_attention_norm);
    if (routers.empty()) return collect_ffn(dense, list, prefix + "mlp");
    for (size_t t = 0; t < routers.size(); ++t) routers[t]->collect(list, gate_name(t));
    experts->collect(list, prefix + "mlp");
  }

  /// As Chain-of-Experts has it: "mlp.gate.0", "mlp.gate.1" with a gate for each round, else "mlp.gate". What
  /// the balance terms of later rounds keep lies under the round's name in any case.
  std::string gate_name(size_t round) const {
    const bool numbered = routers.size() > 1 && (rounds.independent_gating || round > 0);
    return prefix + "mlp.gate" + (numbered ? "." + std::to_string(round) : "");
  }

  std::string prefix;
  AttentionWeights attention;
  Tensor input_norm, post_attention_norm;
  FfnTensors dense;                              // or routers and experts
  std::vector<std::unique_ptr<Router>> routers;  // one a round
  RoundsSpec rounds;
  std::unique_ptr<ExpertBank> experts;
  RandomStream random;
};

Decoder::Decoder(DecoderSpec spec, uint64_t seed) : spec_(std::move(spec)), shared_(seed) {
  validate(spec_);
  embedding_ =
      projection(seed, "model.embed_tokens", spec_.vocab_size, spec_.hidden_size, spec_.initializer_range);
  for (int64_t i = 0; i < spec_.num_layers(); ++i) {
    layers_.push_back(std::make_unique<Layer>(spec_, spec_.layers[static_cast<size_t>(i)], i, seed, shared_));
  }
  norm_ = ones_parameter(spec_.hidden_size);
  if (!spec_.tie_word_embeddings)
    head_ = projection(seed, "lm_head", spec_.vocab_size, spec_.hidden_size, spec_.initializer_range);
}

Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

namespace {

/// On the CPU only: on CUDA the answer would have to be waited for.
void check_tokens(const Tensor& tokens, int64_t vocab_size) {
  if (!tokens.is_cpu()) return;
  const Tensor plain = tokens.contiguous();
  for (const int64_t id : std::span(plain.data_ptr<int64_t>(), static_cast<size_t>(plain.numel())))
    require(id >= 0 && id < vocab_size, "there is no token {}: the model has tokens 0 to {}", id,
            vocab_size - 1);
}

Tensor attend(const DecoderSpec& spec, const AttentionWeights& w, const RotaryTable& table, const Tensor& x,
              const Batch& batch, const Tensor& positions, KeyValueCache* cache) {
  const int64_t rows = batch.rows(), length = batch.length();
  Tensor query = linear_layer(x, w.query), key = linear_layer(x, w.key);
  const Tensor value = linear_layer(x, w.value).view({rows, length, spec.num_kv_heads, spec.head_dim});
  if (spec.query_key_norm == QueryKeyNorm::kProjection) {
    query = rms_norm(query, w.query_norm, spec.rms_norm_eps);
    key = rms_norm(key, w.key_norm, spec.rms_norm_eps);
  }
  query = query.view({rows, length, spec.num_heads, spec.head_dim});
  key = key.view({rows, length, spec.num_kv_heads, spec.head_dim});
  if (spec.query_key_norm == QueryKeyNorm::kHead) {
    query = rms_norm(query, w.query_norm, spec.rms_norm_eps);
    key = rms_norm(key, w.key_norm, spec.rms_norm_eps);
  }
  query = rotary(query, table, positions);
  key = rotary(key, table, positions);
  const AttentionMask mask{.first_key = batch.first_key, .window = spec.sliding_window};
  const Tensor mixed =
      cache ? attention_with_cache(query, key, value, *cache, mask) : attention(query, key, value, mask);
  return linear_layer(mixed.reshape({rows, length, spec.num_heads * spec.head_dim}), w.output);
}

}  // namespace

DecoderOutput Decoder::forward(const Batch& batch, const ForwardOptions& options) {
  require(batch.tokens.dim() == 2 && batch.tokens.scalar_type() == at::kLong,
          "the decoder reads int64 tokens [B, S]");
  const int64_t rows = batch.rows(), length = batch.length(), hidden = spec_.hidden_size;
  const int64_t cached = options.cache ? (*options.cache)[0].length : 0;
  const Tensor positions = positions_of(batch, cached);
  const Tensor flat_tokens = batch.tokens.reshape({-1});
  check_tokens(flat_tokens, spec_.vocab_size);
  DecoderOutput output;
  const RotaryTable& table = rotary_table(cached + length);
  CarriedState carried_state;
  std::vector<Router*> routers;
  Tensor x = embed_tokens(batch.tokens, embedding_), delta;
  // x + delta and the norm that follows are one operation.
  const auto add_and_norm = [&](const Tensor& weight) {
    if (!delta.defined()) return rms_norm(x, weight, spec_.rms_norm_eps);
    SumAndNorm next = add_rms_norm(x, delta, weight, spec_.rms_norm_eps);
    x = std::move(next.sum);
    return std::move(next.norm);
  };
  int64_t num_routed = 0;
  for (const auto& layer : layers_) num_routed += std::ssize(layer->routers);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = *layers_[i];
    KeyValueCache* cache = options.cache ? &(*options.cache)[i] : nullptr;
    delta = attend(spec_, layer.attention, table, add_and_norm(layer.input_norm), batch, positions, cache);
    const Tensor normed = add_and_norm(layer.post_attention_norm).view({rows * length, hidden});
    if (layer.routers.empty()) {
      delta = dense_ffn(normed, layer.dense, Activation::swiglu).view_as(x);
      continue;
    }
    // Anew at every step of a generation, and the same again for the same text.
    RandomStream evaluation(mix_hash(options.draw, static_cast<uint64_t>(cached)),
                            layer.prefix + "evaluation");
    RoutingContext context{.layer = static_cast<int64_t>(i),
                           .training = options.training,
                           .step = options.step,
                           .num_steps = options.num_steps,
                           .micro_batch = options.micro_batch,
                           .counting = options.counting,
                           .num_routed_layers = num_routed,
                           .num_sequences = rows,
                           .token_ids = flat_tokens,
                           .first_key = batch.first_key.defined() ? batch.first_key.reshape({-1}) : Tensor(),
                           .real_tokens = batch.real.defined() ? batch.real.reshape({-1}) : Tensor(),
                           .random = options.training ? &layer.random : &evaluation,
                           .processes = options.processes,
                           .carried = &carried_state};
    const auto round = [&](int64_t t, const Tensor& tokens) {
      Router& router = *layer.routers[static_cast<size_t>(t)];
      context.round = t;
      context.previous = output.routing.empty() ? nullptr : &output.routing.back().scores;
      RoutingRecord record = router.route(tokens, context);
      Tensor made = layer.experts->forward(tokens, record.assignment,
                                           {.training = options.training, .random = context.random});
      output.routing.push_back(std::move(record));
      routers.push_back(&router);
      return made;
    };
    RoundsOutput after = run_rounds(x, normed, layer.rounds, round);
    x = std::move(after.stream);
    delta = std::move(after.delta);
  }
  add_network_balance(routers, output.routing, options.step);
  for (const RoutingRecord& record : output.routing) {
    if (record.loss.defined())
      output.balance_loss = output.balance_loss.defined() ? output.balance_loss + record.loss : record.loss;
  }
  output.hidden = add_and_norm(norm_);
  return output;
}

const RotaryTable& Decoder::rotary_table(int64_t positions) {
  const int64_t have = rotary_.cosine.defined() ? rotary_.cosine.size(0) : 0;
  if (positions > have || rotary_.cosine.device() != embedding_.device())
    rotary_ = make_rotary_table(std::max<int64_t>({positions, 2 * have, 256}), spec_.head_dim,
                                spec_.rope_theta, embedding_.device());
  return rotary_;
}

const Tensor& Decoder::head() const { return spec_.tie_word_embeddings ? embedding_ : head_; }

Tensor Decoder::logits(const Tensor& hidden) const { return linear_layer(hidden, head()).to(at::kFloat); }

ParameterList Decoder::parameters() const {
  ParameterList list;
  list.push_back({.name = "model.embed_tokens.weight", .tensor = embedding_});
  shared_.collect(list, "model.");
  for (size_t i = 0; i < layers_.size(); ++i) {
    ParameterList own;
    layers_[i]->collect(own);
    for (NamedTensor& p : own) p.name = published_name(spec_.layers[i], std::move(p.name));
    list.insert(list.end(), own.begin(), own.end());
  }
  add_norm(list, "model.norm.weight", norm_);
  if (head_.defined()) list.push_back({.name = "lm_head.weight", .tensor = head_});
  return list;
}

int64_t Decoder::num_parameters() const {
  int64_t count = 0;
  for (const NamedTensor& p : parameters()) count += p.trainable ? p.tensor.numel() : 0;
  return count;
}

void Decoder::to(const at::Device& device) {
  const at::NoGradGuard no_grad;
  // The tensors are shared with the layers: their storage moves, they stay.
  for (NamedTensor& p : parameters()) p.tensor.set_data(p.tensor.to(device));
}

bool Decoder::wants_counting_pass() const {
  return std::ranges::any_of(layers_, [](const auto& layer) {
    return std::ranges::any_of(layer->routers, [](const auto& r) { return r->wants_counting_pass(); });
  });
}

void Decoder::end_step() {
  std::map<std::string, std::vector<double>> of_layers;
  for (const auto& layer : layers_) {
    for (const auto& router : layer->routers) {
      for (const auto& [name, loss] : router->mean_losses()) of_layers[name].push_back(loss);
    }
  }
  std::map<std::string, double> means;
  for (const auto& [name, losses] : of_layers)
    means[name] = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  for (const auto& layer : layers_) {
    for (const auto& router : layer->routers) {
      router->observe(means);
      router->end_step();
    }
  }
}

std::vector<uint64_t> Decoder::random_state() const {
  std::vector<uint64_t> state;
  for (const auto& layer : layers_) state.push_back(layer->random.position());
  return state;
}

void Decoder::set_random_state(const std::vector<uint64_t>& state) {
  require(state.size() == layers_.size(), "the saved random state is of {} layers, the model has {}",
          state.size(), layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i]->random.seek(state[i]);
}

}  // namespace gatewright

#include "gatewright/models/decoder.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/pattern.h"
#include "gatewright/experts/feed_forward.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/experts/registry.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/models/attention_block.h"
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

/// Position of each token inside its document: int64 [B, S].
Tensor positions_of(const Batch& batch, int64_t already_cached) {
  const auto integers = batch.tokens.options();
  const Tensor place =
      batch.tree ? at::tensor(batch.tree->depth, integers) : at::arange(batch.length(), integers);
  const Tensor index = place.unsqueeze(0) + already_cached;
  if (!batch.first_key.defined()) return index.expand_as(batch.tokens);
  return index - batch.first_key.to(at::kLong);
}

}  // namespace

struct Decoder::Layer {
  Layer(const DecoderSpec& spec, const FeedForwardSpec& feed_forward, int64_t index, uint64_t seed,
        SharedModules& shared)
      : prefix("model.layers." + std::to_string(index) + "."),
        attention(spec, feed_forward, seed, prefix + "self_attn."),
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
    attention.collect(list);
    add_norm(list, prefix + "post_attention_layernorm.weight", post_attention_norm);
    if (routers.empty()) return collect_ffn(dense, list, prefix + "mlp");
    const size_t first = list.size();
    for (size_t t = 0; t < routers.size(); ++t) routers[t]->collect(list, gate_name(t));
    mark_routers(list, first);
    experts->collect(list, prefix + "mlp");
  }

  /// The rounds of a routed layer, whose records are added to those of the layers before it.
  RoundsOutput route(const Tensor& stream, const Tensor& normed, RoutingContext& context,
                     std::vector<RoutingRecord>& records, ProductObserver* observer) {
    return run_rounds(stream, normed, rounds, [&](int64_t t, const Tensor& tokens) {
      context.round = t;
      context.previous = records.empty() ? nullptr : &records.back().scores;
      records.push_back(routers[static_cast<size_t>(t)]->route(tokens, context));
      return experts->forward(tokens, records.back().assignment,
                              {.training = context.training, .random = context.random, .observer = observer});
    });
  }

  /// As Chain-of-Experts has it: "mlp.gate.0", "mlp.gate.1" with a gate for each round, else "mlp.gate". What
  /// the balance terms of later rounds keep lies under the round's name in any case.
  std::string gate_name(size_t round) const {
    const bool numbered = routers.size() > 1 && (rounds.independent_gating || round > 0);
    return numbered ? fmt::format("{}mlp.gate.{}", prefix, round) : prefix + "mlp.gate";
  }

  std::string prefix;
  AttentionBlock attention;
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

/// What all routers of a forward pass are told; a layer adds its own.
RoutingContext context_of_pass(const Batch& batch, const Tensor& flat_tokens, const ForwardOptions& options,
                               int64_t cached) {
  return {.training = options.training,
          .step = options.step,
          .num_steps = options.num_steps,
          .micro_batch = options.micro_batch,
          .counting = options.counting,
          .num_sequences = batch.rows(),
          .first_position = cached,
          .token_ids = flat_tokens,
          .first_key = batch.first_key.defined() ? batch.first_key.reshape({-1}) : Tensor(),
          .real_tokens = batch.real.defined() ? batch.real.reshape({-1}) : Tensor(),
          .processes = options.processes};
}

/// The sum of the records' losses; undefined when there are none.
Tensor loss_of(const std::vector<RoutingRecord>& records) {
  Tensor sum;
  for (const RoutingRecord& record : records) {
    if (record.loss.defined()) sum = sum.defined() ? sum + record.loss : record.loss;
  }
  return sum;
}

}  // namespace

DecoderOutput Decoder::forward(const Batch& batch, const ForwardOptions& options) {
  require(batch.tokens.dim() == 2 && batch.tokens.scalar_type() == at::kLong,
          "the decoder reads int64 tokens [B, S]");
  const int64_t rows = batch.rows(), length = batch.length(), hidden = spec_.hidden_size;
  require(!batch.tree || (options.cache && rows == 1 && batch.tree->size() == length),
          "a tree of tokens is one row that continues a cache");
  const int64_t cached = options.cache ? (*options.cache)[0].length : 0;
  const Tensor positions = positions_of(batch, cached);
  const Tensor flat_tokens = batch.tokens.reshape({-1});
  check_tokens(flat_tokens, spec_.vocab_size);
  DecoderOutput output;
  require(
      cached == 0 || options.text_length > 0 ||
          turns_by_long_factors(spec_.rotary, cached) == turns_by_long_factors(spec_.rotary, cached + length),
      "a text that outgrows the original context of {} tokens turns by other angles: it must be computed "
      "from its beginning, with its length in text_length",
      spec_.rotary.original_positions);
  const RotaryTable& table = rotary_table(std::max(cached + length, options.text_length));
  CarriedState carried_state, carried_between_heads;
  RoutingContext of_experts = context_of_pass(batch, flat_tokens, options, cached), of_heads = of_experts;
  of_experts.num_routed_layers = std::ssize(routers_of(Half::kFeedForward));
  of_experts.carried = &carried_state;
  of_heads.num_routed_layers = std::ssize(routers_of(Half::kAttention));
  of_heads.carried = &carried_between_heads;
  Tensor x = embed_tokens(batch.tokens, embedding_), delta;
  // x + delta and the norm that follows are one operation.
  const auto add_and_norm = [&](const Tensor& weight) {
    if (!delta.defined()) return rms_norm(x, weight, spec_.rms_norm_eps);
    SumAndNorm next = add_rms_norm(x, delta, weight, spec_.rms_norm_eps);
    x = std::move(next.sum);
    return std::move(next.norm);
  };
  const size_t computed =
      options.layers < 0 ? layers_.size() : std::min(layers_.size(), static_cast<size_t>(options.layers));
  for (size_t i = 0; i < computed; ++i) {
    Layer& layer = *layers_[i];
    KeyValueCache* cache = options.cache ? &(*options.cache)[i] : nullptr;
    // Anew at every step of a generation, and the same again for the same text.
    RandomStream evaluation(mix_hash(options.draw, static_cast<uint64_t>(cached)),
                            layer.prefix + "evaluation");
    of_experts.layer = of_heads.layer = static_cast<int64_t>(i);
    of_experts.random = of_heads.random = options.training ? &layer.random : &evaluation;
    const Tensor attended = add_and_norm(layer.input_norm);
    delta = layer.attention.forward(attended, {.spec = spec_,
                                               .batch = batch,
                                               .rotary = table,
                                               .positions = positions,
                                               .routing = {.context = of_heads, .records = output.attention},
                                               .cache = cache,
                                               .observer = options.observer,
                                               .window = spec_.window(static_cast<int64_t>(i))});
    const Tensor normed = add_and_norm(layer.post_attention_norm).view({rows * length, hidden});
    if (layer.routers.empty()) {
      delta = dense_ffn(normed, layer.dense, Activation::swiglu, {}, false, options.observer).view_as(x);
      continue;
    }
    RoundsOutput after = layer.route(x, normed, of_experts, output.routing, options.observer);
    x = std::move(after.stream);
    delta = std::move(after.delta);
  }
  if (computed == layers_.size()) {
    add_network_balance(routers_of(Half::kFeedForward), output.routing, options.step);
    add_network_balance(routers_of(Half::kAttention), output.attention, options.step);
  }
  const Tensor of_routing = loss_of(output.routing), of_attention = loss_of(output.attention);
  output.balance_loss = of_routing.defined() && of_attention.defined()
                            ? of_routing + of_attention
                            : (of_routing.defined() ? of_routing : of_attention);
  output.hidden = add_and_norm(norm_);
  return output;
}

const RotaryTable& Decoder::rotary_table(int64_t positions) {
  const bool long_text = turns_by_long_factors(spec_.rotary, positions);
  const int64_t have = rotary_.cosine.defined() ? rotary_.cosine.size(0) : 0;
  if (positions <= have && long_text == rotary_is_long_ && rotary_.cosine.device() == device())
    return rotary_;
  const RotaryFrequencies frequencies = rotary_frequencies(spec_.rotary, spec_.rotary_width(), positions);
  rotary_ = make_rotary_table(std::max<int64_t>({positions, 2 * have, 256}), frequencies, device());
  rotary_is_long_ = long_text;
  return rotary_;
}

at::Device Decoder::device() const { return norm_.device(); }

const Tensor& Decoder::head() const { return spec_.tie_word_embeddings ? embedding_ : head_; }

Tensor Decoder::logits(const Tensor& hidden, ProductObserver* observer) const {
  return linear_layer(hidden, head(), {}, observer).to(at::kFloat);
}

ParameterList Decoder::parameters() const {
  ParameterList list;
  list.push_back({.name = "model.embed_tokens.weight", .tensor = embedding_});
  shared_.collect(list, "model.");
  mark_routers(list, 1);
  for (size_t i = 0; i < layers_.size(); ++i) {
    ParameterList own;
    layers_[i]->collect(own);
    for (NamedTensor& p : own) p.name = published_name(spec_.layers[i], std::move(p.name));
    list.insert(list.end(), own.begin(), own.end());
  }
  add_norm(list, "model.norm.weight", norm_);
  if (head_.defined()) list.push_back({.name = "lm_head.weight", .tensor = head_});
  for (NamedTensor& p : list) p.trainable = p.trainable && !frozen_.contains(p.name);
  return list;
}

ParameterList Decoder::unfrozen_parameters() const {
  ParameterList list = parameters();
  std::erase_if(list, [&](const NamedTensor& p) { return frozen_.contains(p.name); });
  return list;
}

void Decoder::freeze(NamedTensor& parameter) {
  if (!parameter.trainable) return;
  frozen_.insert(parameter.name);
  parameter.tensor.set_requires_grad(false);
}

void Decoder::freeze(const std::vector<std::string>& patterns) {
  ParameterList all = parameters();
  for (const std::string& pattern : patterns) {
    bool found = false;
    for (NamedTensor& p : all) {
      if (!fits_pattern(p.name, pattern)) continue;
      found = true;
      freeze(p);
    }
    if (!found)
      fail_usage("there is no parameter '{}' to freeze; * stands for any text, as in model.embed_tokens.*",
                 pattern);
  }
}

void Decoder::freeze_all_but_routers() {
  ParameterList all = parameters();
  if (std::ranges::none_of(all, &NamedTensor::router))
    fail_usage("the model has no routed layer, so there are no routers to train alone");
  for (NamedTensor& p : all) {
    if (!p.router) freeze(p);
  }
}

int64_t Decoder::num_parameters() const {
  int64_t count = 0;
  for (const NamedTensor& p : parameters()) count += p.trainable ? num_values(p.tensor) : 0;
  return count;
}

void Decoder::to(const at::Device& device) {
  const at::NoGradGuard no_grad;
  // The tensors are shared with the layers: their storage moves, they stay.
  for (NamedTensor& p : parameters()) {
    require(device.is_cpu() || !is_packed(p.tensor),
            "{} is packed as its file has it, which the CPU computes with only; leave the device out, or "
            "convert the "
            "file to f32 first",
            p.name);
    p.tensor.set_data(p.tensor.to(device));
  }
}

bool Decoder::wants_counting_pass() const {
  const auto wants = [](const Router* router) { return router->wants_counting_pass(); };
  return std::ranges::any_of(routers_of(Half::kFeedForward), wants) ||
         std::ranges::any_of(routers_of(Half::kAttention), wants);
}

bool Decoder::chooses_token_by_token() const {
  const auto alone = [](const Router* router) { return router->chooses_token_by_token(); };
  return std::ranges::all_of(routers_of(Half::kFeedForward), alone) &&
         std::ranges::all_of(routers_of(Half::kAttention), alone);
}

std::vector<Router*> Decoder::routers_of(Half half) const {
  std::vector<Router*> all;
  for (const auto& layer : layers_) {
    if (half == Half::kFeedForward) {
      for (const auto& router : layer->routers) all.push_back(router.get());
    } else {
      const std::vector<Router*> own = layer->attention.routers();
      all.insert(all.end(), own.begin(), own.end());
    }
  }
  return all;
}

namespace {

/// The mean observation of each balance term over the routers that made one.
std::map<std::string, double> mean_observations(const std::vector<Router*>& routers) {
  std::map<std::string, std::vector<double>> of_routers;
  for (const Router* router : routers) {
    for (const auto& [name, value] : router->observations()) of_routers[name].push_back(value);
  }
  std::map<std::string, double> means;
  for (const auto& [name, values] : of_routers)
    means[name] = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  return means;
}

}  // namespace

void Decoder::end_step() {
  for (const Half half : {Half::kFeedForward, Half::kAttention}) {
    const std::vector<Router*> routers = routers_of(half);
    const std::map<std::string, double> means = mean_observations(routers);
    for (Router* router : routers) {
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

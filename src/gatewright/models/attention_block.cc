#include "gatewright/models/attention_block.h"

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/layers/selective_attention.h"

namespace gatewright {
namespace {

/// Standard deviation of the initial weights; heads that are experts have Xavier's unless told otherwise.
double initial_size(const DecoderSpec& spec) {
  if (!spec.selective_attention) return spec.initializer_range;
  if (spec.selective_attention->init > 0) return spec.selective_attention->init;
  return std::sqrt(2.0 / static_cast<double>(spec.hidden_size + spec.head_dim));
}

}  // namespace

AttentionBlock::AttentionBlock(const DecoderSpec& s, const FeedForwardSpec& layer, uint64_t seed,
                               std::string prefix)
    : prefix_(std::move(prefix)), adapters_(s, layer, seed, prefix_) {
  if (s.latent) {
    make_latent_parameters(s, seed);
    return;
  }
  const int64_t q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
  const auto projection = [&](const char* name, int64_t out, int64_t in) {
    RandomStream random(seed, prefix_ + name);
    return normal_parameter({out, in}, initial_size(s), random).set_requires_grad(!adapters_.adapts(name));
  };
  query_ = projection("q_proj", q, s.hidden_size);
  key_ = projection("k_proj", kv, s.hidden_size);
  value_ = projection("v_proj", kv, s.hidden_size);
  output_ = projection("o_proj", s.hidden_size, q);
  if (s.query_key_value_bias) {
    query_bias_ = constant_parameter({q}, 0);
    key_bias_ = constant_parameter({kv}, 0);
    value_bias_ = constant_parameter({kv}, 0);
  }
  if (s.output_bias) output_bias_ = constant_parameter({s.hidden_size}, 0);
  if (s.attention_sinks) sinks_ = constant_parameter({s.num_heads}, 0);
  if (s.selective_attention) {
    RandomStream random(seed, prefix_ + "gate");
    router_ = std::make_unique<Router>(s.selective_attention->router,
                                       RouterSizes{.hidden_size = s.hidden_size, .num_experts = s.num_heads},
                                       random);
  }
  if (s.query_key_norm == QueryKeyNorm::kNone) return;
  const bool per_head = s.query_key_norm == QueryKeyNorm::kHead;
  query_norm_ = constant_parameter({per_head ? s.head_dim : q}, 1.0);
  key_norm_ = constant_parameter({per_head ? s.head_dim : kv}, 1.0);
}

std::vector<Router*> AttentionBlock::routers() const {
  return router_ ? std::vector<Router*>{router_.get()} : adapters_.routers();
}

void AttentionBlock::make_latent_parameters(const DecoderSpec& s, uint64_t seed) {
  const LatentAttentionSpec& l = *s.latent;
  const auto projection = [&](const char* name, int64_t out, int64_t in) {
    RandomStream random(seed, prefix_ + name);
    return normal_parameter({out, in}, s.initializer_range, random);
  };
  const int64_t queries = s.num_heads * (l.nope_dim + l.rope_dim);
  if (l.query_rank > 0) {
    query_down_ = projection("q_a_proj", l.query_rank, s.hidden_size);
    query_norm_ = constant_parameter({l.query_rank}, 1.0);
  }
  query_ = projection("q_proj", queries, l.query_rank > 0 ? l.query_rank : s.hidden_size);
  key_ = projection("kv_a_proj_with_mqa", l.key_value_rank + l.rope_dim, s.hidden_size);
  key_norm_ = constant_parameter({l.key_value_rank}, 1.0);
  value_ = projection("kv_b_proj", s.num_heads * (l.nope_dim + l.value_dim), l.key_value_rank);
  output_ = projection("o_proj", s.hidden_size, s.num_heads * l.value_dim);
  latent_ = true;
}

void AttentionBlock::collect(ParameterList& list) const {
  const auto add = [&](const char* name, const Tensor& tensor, bool weight_decay) {
    if (tensor.defined())
      list.push_back({.name = prefix_ + name, .tensor = tensor, .weight_decay = weight_decay});
  };
  if (latent_) {
    add("q_a_proj.weight", query_down_, true);
    add("q_a_layernorm.weight", query_norm_, false);
    add(query_down_.defined() ? "q_b_proj.weight" : "q_proj.weight", query_, true);
    add("kv_a_proj_with_mqa.weight", key_, true);
    add("kv_a_layernorm.weight", key_norm_, false);
    add("kv_b_proj.weight", value_, true);
    add("o_proj.weight", output_, true);
    return;
  }
  const auto add_projection = [&](const std::string& name, const Tensor& tensor) {
    list.push_back(
        {.name = prefix_ + name + ".weight", .tensor = tensor, .trainable = !adapters_.adapts(name)});
  };
  add_projection("q_proj", query_);
  add_projection("k_proj", key_);
  add_projection("v_proj", value_);
  add_projection("o_proj", output_);
  add("q_proj.bias", query_bias_, false);
  add("k_proj.bias", key_bias_, false);
  add("v_proj.bias", value_bias_, false);
  add("o_proj.bias", output_bias_, false);
  add("sinks", sinks_, false);
  add("q_norm.weight", query_norm_, false);
  add("k_norm.weight", key_norm_, false);
  adapters_.collect(list, prefix_);
  if (!router_) return;
  const size_t first = list.size();
  router_->collect(list, prefix_ + "gate");
  mark_routers(list, first);
}

Tensor AttentionBlock::forward(const Tensor& normed, const AttentionInput& in) const {
  if (in.spec.latent) return attend_latent(normed, *in.spec.latent, in);
  if (!router_) return attend(normed, in);
  std::vector<RoutingRecord>& records = in.routing.records;
  records.push_back(router_->route(normed.reshape({-1, normed.size(-1)}), in.routing.context));
  return attend_selectively(normed, records.back().assignment, in);
}

Tensor AttentionBlock::mix(const Tensor& query, const Tensor& key, const Tensor& value, double scale,
                           const AttentionInput& in) const {
  const AttentionMask mask{.first_key = in.batch.first_key,
                           .window = in.window,
                           .scale = scale,
                           .tree = in.batch.tree.get(),
                           .sinks = sinks_};
  return in.cache ? attention_with_cache(query, key, value, *in.cache, mask)
                  : attention(query, key, value, mask);
}

namespace {

/// Within +- bound; 0: as it is. After the norm of the projection, as OLMoE of Transformers has it.
Tensor clipped(const Tensor& x, double bound) { return bound > 0 ? x.clamp(-bound, bound) : x; }

}  // namespace

Tensor AttentionBlock::attend(const Tensor& normed, const AttentionInput& in) const {
  const int64_t rows = in.batch.rows(), length = in.batch.length();
  const auto project = [&](const char* name, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    return adapters_.adapted(name, linear_layer(x, weight, bias, in.observer), x, in.routing);
  };
  Tensor query = project("q_proj", normed, query_, query_bias_),
         key = project("k_proj", normed, key_, key_bias_),
         value = project("v_proj", normed, value_, value_bias_);
  if (in.spec.query_key_norm == QueryKeyNorm::kProjection) {
    query = rms_norm(query, query_norm_, in.spec.rms_norm_eps);
    key = rms_norm(key, key_norm_, in.spec.rms_norm_eps);
  }
  query = clipped(query, in.spec.clip_qkv).view({rows, length, in.spec.num_heads, in.spec.head_dim});
  key = clipped(key, in.spec.clip_qkv).view({rows, length, in.spec.num_kv_heads, in.spec.head_dim});
  value = clipped(value, in.spec.clip_qkv).view({rows, length, in.spec.num_kv_heads, in.spec.head_dim});
  if (in.spec.query_key_norm == QueryKeyNorm::kHead) {
    query = rms_norm(query, query_norm_, in.spec.rms_norm_eps);
    key = rms_norm(key, key_norm_, in.spec.rms_norm_eps);
  }
  query = rotary(query, in.rotary, in.positions);
  key = rotary(key, in.rotary, in.positions);
  const Tensor mixed = mix(query, key, value, 0, in);
  return project("o_proj", mixed.reshape({rows, length, in.spec.num_heads * in.spec.head_dim}), output_,
                 output_bias_);
}

namespace {

/// The last axis filled up with zeros.
Tensor padded(const Tensor& x, int64_t size) {
  return x.size(-1) == size ? x : at::constant_pad_nd(x, {0, size - x.size(-1)});
}

}  // namespace

Tensor AttentionBlock::attend_latent(const Tensor& normed, const LatentAttentionSpec& l,
                                     const AttentionInput& in) const {
  const int64_t rows = in.batch.rows(), length = in.batch.length(), heads = in.spec.num_heads;
  const auto project = [&](const Tensor& x, const Tensor& weight) {
    return linear_layer(x, weight, {}, in.observer);
  };
  const auto turned = [&](const Tensor& x) {
    return rotary(x, in.rotary, in.positions, RotaryOrder::kInterleaved);
  };
  const Tensor inner = query_down_.defined()
                           ? rms_norm(project(normed, query_down_), query_norm_, in.spec.rms_norm_eps)
                           : normed;
  const Tensor query = project(inner, query_).view({rows, length, heads, l.nope_dim + l.rope_dim});
  const Tensor small = project(normed, key_);
  const Tensor vector =
      rms_norm(small.narrow(-1, 0, l.key_value_rank).contiguous(), key_norm_, in.spec.rms_norm_eps);
  const Tensor key_values = project(vector, value_).view({rows, length, heads, l.nope_dim + l.value_dim});
  // One rotary part of the key for all heads.
  const Tensor key_position =
      turned(small.narrow(-1, l.key_value_rank, l.rope_dim).reshape({rows, length, 1, l.rope_dim}));
  const Tensor queries = at::cat(
      {query.narrow(-1, 0, l.nope_dim), turned(query.narrow(-1, l.nope_dim, l.rope_dim).contiguous())}, -1);
  const Tensor keys = at::cat(
      {key_values.narrow(-1, 0, l.nope_dim), key_position.expand({rows, length, heads, l.rope_dim})}, -1);
  // The kernels know one width of a head: what is narrower gets zeros, which change no score and no value.
  const int64_t width = std::max(l.nope_dim + l.rope_dim, l.value_dim);
  const double scale =
      latent_attention_scale(in.spec.rotary) / std::sqrt(static_cast<double>(l.nope_dim + l.rope_dim));
  const Tensor mixed = mix(padded(queries, width), padded(keys, width),
                           padded(key_values.narrow(-1, l.nope_dim, l.value_dim), width), scale, in);
  return project(mixed.narrow(-1, 0, l.value_dim).reshape({rows, length, heads * l.value_dim}), output_);
}

Tensor AttentionBlock::attend_selectively(const Tensor& normed, const Assignment& heads,
                                          const AttentionInput& in) const {
  const HeadWeights weights{.query = query_,
                            .key = key_,
                            .value = value_,
                            .output = output_,
                            .query_norm = query_norm_,
                            .key_norm = key_norm_,
                            .norm_epsilon = in.spec.rms_norm_eps};
  const SelectiveOptions options{.subsequence_positions = in.spec.selective_attention->subsequence_positions,
                                 .window = in.window,
                                 .first_key = in.batch.first_key,
                                 .rotary = &in.rotary};
  require(!in.batch.tree,
          "{}: heads that are experts read texts, not trees of tokens; draft one continuation", prefix_);
  if (!in.cache) return selective_attention(normed, heads, weights, options);
  require(router_->chooses_token_by_token(),
          "{}: its heads are chosen by comparing tokens of a whole text, which can't be continued token by "
          "token; give it whole texts, or leave the capacity out of [attention]",
          prefix_);
  return selective_attention_with_cache(normed, heads, weights, *in.cache, options);
}

}  // namespace gatewright

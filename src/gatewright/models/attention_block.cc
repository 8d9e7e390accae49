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

AttentionBlock::AttentionBlock(const DecoderSpec& s, uint64_t seed, std::string prefix)
    : prefix_(std::move(prefix)) {
  const int64_t q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
  const auto projection = [&](const char* name, int64_t out, int64_t in) {
    RandomStream random(seed, prefix_ + name);
    return normal_parameter({out, in}, initial_size(s), random);
  };
  query_ = projection("q_proj", q, s.hidden_size);
  key_ = projection("k_proj", kv, s.hidden_size);
  value_ = projection("v_proj", kv, s.hidden_size);
  output_ = projection("o_proj", s.hidden_size, q);
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

void AttentionBlock::collect(ParameterList& list) const {
  const auto add = [&](const char* name, const Tensor& tensor, bool weight_decay) {
    if (tensor.defined())
      list.push_back({.name = prefix_ + name, .tensor = tensor, .weight_decay = weight_decay});
  };
  add("q_proj.weight", query_, true);
  add("k_proj.weight", key_, true);
  add("v_proj.weight", value_, true);
  add("o_proj.weight", output_, true);
  add("q_norm.weight", query_norm_, false);
  add("k_norm.weight", key_norm_, false);
  if (router_) router_->collect(list, prefix_ + "gate");
}

Tensor AttentionBlock::forward(const Tensor& normed, const RoutingRecord* heads,
                               const AttentionInput& input) const {
  return heads ? attend_selectively(normed, heads->assignment, input) : attend(normed, input);
}

Tensor AttentionBlock::attend(const Tensor& normed, const AttentionInput& in) const {
  const int64_t rows = in.batch.rows(), length = in.batch.length();
  Tensor query = linear_layer(normed, query_), key = linear_layer(normed, key_);
  const Tensor value =
      linear_layer(normed, value_).view({rows, length, in.spec.num_kv_heads, in.spec.head_dim});
  if (in.spec.query_key_norm == QueryKeyNorm::kProjection) {
    query = rms_norm(query, query_norm_, in.spec.rms_norm_eps);
    key = rms_norm(key, key_norm_, in.spec.rms_norm_eps);
  }
  query = query.view({rows, length, in.spec.num_heads, in.spec.head_dim});
  key = key.view({rows, length, in.spec.num_kv_heads, in.spec.head_dim});
  if (in.spec.query_key_norm == QueryKeyNorm::kHead) {
    query = rms_norm(query, query_norm_, in.spec.rms_norm_eps);
    key = rms_norm(key, key_norm_, in.spec.rms_norm_eps);
  }
  query = rotary(query, in.rotary, in.positions);
  key = rotary(key, in.rotary, in.positions);
  const AttentionMask mask{.first_key = in.batch.first_key, .window = in.spec.sliding_window};
  const Tensor mixed = in.cache ? attention_with_cache(query, key, value, *in.cache, mask)
                                : attention(query, key, value, mask);
  return linear_layer(mixed.reshape({rows, length, in.spec.num_heads * in.spec.head_dim}), output_);
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
                                 .window = in.spec.sliding_window,
                                 .first_key = in.batch.first_key,
                                 .rotary = &in.rotary};
  if (!in.cache) return selective_attention(normed, heads, weights, options);
  require(router_->chooses_token_by_token(),
          "{}: its heads are chosen by comparing tokens of a whole text, which can't be continued token by "
          "token; give it whole texts, or leave the capacity out of [attention]",
          prefix_);
  return selective_attention_with_cache(normed, heads, weights, *in.cache, options);
}

}  // namespace gatewright

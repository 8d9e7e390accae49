#include "gatewright/experts/lora.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/experts/activation.h"
#include "gatewright/experts/dropout.h"

namespace gatewright {
namespace {

/// The weight of each token's experts, zero for the others: [T, E].
Tensor dense_weights(const Assignment& assignment) {
  const int64_t experts = assignment.num_experts();
  const Tensor cell = assignment.token * experts + expert_of_pairs(assignment);
  return at::zeros({assignment.num_tokens * experts}, assignment.weight.options().requires_grad(false))
      .index_add(0, cell, assignment.weight)
      .view({assignment.num_tokens, experts});
}

}  // namespace

Tensor lora_delta(const Tensor& x, const Assignment& assignment, const LoraWeights& w, double scale) {
  const int64_t experts = w.a.size(0), rank = w.a.size(1);
  const Tensor a = w.a.flatten(0, 1).to(x.scalar_type());
  const Tensor b = w.b.transpose(1, 2).flatten(0, 1).to(x.scalar_type());  // [E r, d_out]
  const Tensor weight = (dense_weights(assignment) * scale).to(x.scalar_type());
  const Tensor inner = x.mm(a.t()).view({x.size(0), experts, rank}) * weight.unsqueeze(-1);
  return inner.flatten(1).mm(b);
}

LoraMap::LoraMap(int64_t experts, int64_t d_in, int64_t d_out, const AdapterOptions& options,
                 RandomStream& random)
    : scale_(options.alpha / static_cast<double>(options.rank)), dropout_(options.dropout) {
  require(options.rank >= 1, "[lora] rank must be at least 1, got {}", options.rank);
  weights_.a = uniform_tensor({experts, options.rank, d_in}, 1 / std::sqrt(static_cast<double>(d_in)), random)
                   .set_requires_grad(true);
  weights_.b = constant_parameter({experts, d_out, options.rank}, 0);
}

Tensor LoraMap::adapted(const Tensor& product, const Tensor& x, const Assignment& assignment,
                        const ExpertContext& context) const {
  if (!weights_.a.defined()) return product;
  return product + lora_delta(dropout(x, dropout_, context), assignment, weights_, scale_);
}

void LoraMap::collect(ParameterList& parameters, const std::string& prefix) const {
  if (!weights_.a.defined()) return;
  parameters.push_back({.name = prefix + ".lora_A.weight", .tensor = weights_.a});
  parameters.push_back({.name = prefix + ".lora_B.weight", .tensor = weights_.b});
}

int64_t LoraMap::parameters_per_expert() const {
  return weights_.a.defined() ? (weights_.a.numel() + weights_.b.numel()) / weights_.a.size(0) : 0;
}

AdapterOptions adapter_options(const Values& v) {
  return {.rank = v.integer("rank"), .alpha = v.number("lora_alpha"), .dropout = v.number("dropout")};
}

LoraExperts::LoraExperts(const ExpertSizes& sizes, const LoraOptions& options, RandomStream& random)
    : num_experts_(sizes.num_experts), layer_(sizes.layer) {
  base_ = make_ffn_parameters(0, sizes.hidden_size, {.width = options.width, .init = options.init}, random);
  for (Tensor* t : {&base_.gate, &base_.up, &base_.down}) t->set_requires_grad(false);
  const int64_t hidden = sizes.hidden_size, width = base_.up.size(0);
  for (const std::string& map : options.adapted) {
    if (std::ranges::count(kLoraMaps, map) == 0)
      fail_usage("[lora] adapted may name {}, got \"{}\"", fmt::join(kLoraMaps, ", "), map);
    if (map == "gate") gate_ = LoraMap(num_experts_, hidden, width, options.adapters, random);
    if (map == "up") up_ = LoraMap(num_experts_, hidden, width, options.adapters, random);
    if (map == "down") down_ = LoraMap(num_experts_, width, hidden, options.adapters, random);
  }
}

Tensor LoraExperts::adapted(const Tensor& x, const Tensor& base, const LoraMap& map,
                            const Assignment& assignment, const ExpertContext& context) {
  return map.adapted(x.mm(base.to(x.scalar_type()).t()), x, assignment, context);
}

Tensor LoraExperts::forward(const Tensor& hidden, const Assignment& assignment,
                            const ExpertContext& context) {
  require(assignment.num_experts() == num_experts_,
          "layer {}: an assignment for {} experts reached a bank of {} experts", layer_,
          assignment.num_experts(), num_experts_);
  const Tensor gate = adapted(hidden, base_.gate, gate_, assignment, context);
  const Tensor up = adapted(hidden, base_.up, up_, assignment, context);
  return adapted(activated(Activation::swiglu, gate, up), base_.down, down_, assignment, context);
}

void LoraExperts::collect(ParameterList& parameters, const std::string& prefix) const {
  const size_t first = parameters.size();
  collect_ffn(base_, parameters, prefix);
  for (size_t i = first; i < parameters.size(); ++i) parameters[i].trainable = false;
  const std::string adapters = prefix + ".moe_lora.experts.{}";
  gate_.collect(parameters, adapters + ".gate_proj");
  up_.collect(parameters, adapters + ".up_proj");
  down_.collect(parameters, adapters + ".down_proj");
}

int64_t LoraExperts::parameters_per_expert() const {
  return gate_.parameters_per_expert() + up_.parameters_per_expert() + down_.parameters_per_expert();
}

}  // namespace gatewright

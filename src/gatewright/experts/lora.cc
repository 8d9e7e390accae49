#include "gatewright/experts/lora.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/experts/activation.h"
#include "gatewright/experts/dropout.h"

namespace gatewright {
namespace {

LoraWeights make_lora(int64_t experts, int64_t rank, int64_t in, int64_t out, RandomStream& random) {
  return {.a = uniform_tensor({experts, rank, in}, 1 / std::sqrt(static_cast<double>(in)), random)
                   .set_requires_grad(true),
          .b = constant_parameter({experts, out, rank}, 0)};
}

/// The weight of each token's experts, zero for the others: [T, E].
Tensor dense_weights(const Assignment& assignment) {
  const int64_t experts = assignment.num_experts();
  const Tensor cell = assignment.token * experts + expert_of_pairs(assignment);
  return at::zeros({assignment.num_tokens * experts}, assignment.weight.options().requires_grad(false))
      .index_add(0, cell, assignment.weight)
      .view({assignment.num_tokens, experts});
}

void collect_lora(const LoraWeights& w, ParameterList& parameters, const std::string& prefix) {
  if (!w.a.defined()) return;
  parameters.push_back({.name = prefix + ".lora_A.weight", .tensor = w.a});
  parameters.push_back({.name = prefix + ".lora_B.weight", .tensor = w.b});
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

LoraExperts::LoraExperts(const ExpertSizes& sizes, const LoraOptions& options, RandomStream& random)
    : num_experts_(sizes.num_experts),
      layer_(sizes.layer),
      scale_(options.alpha / static_cast<double>(options.rank)),
      dropout_(options.dropout) {
  require(options.rank >= 1, "[lora] rank must be at least 1, got {}", options.rank);
  base_ = make_ffn_parameters(0, sizes.hidden_size, {.width = options.width, .init = options.init}, random);
  for (Tensor* t : {&base_.gate, &base_.up, &base_.down}) t->set_requires_grad(false);
  const int64_t hidden = sizes.hidden_size, width = base_.up.size(0);
  for (const std::string& map : options.adapted) {
    if (map != "gate" && map != "up" && map != "down")
      fail_usage("[lora] adapted may name gate, up and down, got \"{}\"", map);
    LoraWeights& weights = map == "gate" ? gate_ : map == "up" ? up_ : down_;
    const bool down = map == "down";
    weights = make_lora(num_experts_, options.rank, down ? width : hidden, down ? hidden : width, random);
  }
}

Tensor LoraExperts::adapted(const Tensor& x, const Tensor& base, const LoraWeights& weights,
                            const Assignment& assignment, const ExpertContext& context) const {
  const Tensor product = x.mm(base.to(x.scalar_type()).t());
  if (!weights.a.defined()) return product;
  return product + lora_delta(dropout(x, dropout_, context), assignment, weights, scale_);
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
  collect_lora(gate_, parameters, adapters + ".gate_proj");
  collect_lora(up_, parameters, adapters + ".up_proj");
  collect_lora(down_, parameters, adapters + ".down_proj");
}

int64_t LoraExperts::parameters_per_expert() const {
  int64_t count = 0;
  for (const LoraWeights* w : {&gate_, &up_, &down_})
    count += w->a.defined() ? (w->a.numel() + w->b.numel()) / num_experts_ : 0;
  return count;
}

}  // namespace gatewright

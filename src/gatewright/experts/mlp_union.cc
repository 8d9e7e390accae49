#include "gatewright/experts/mlp_union.h"

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/experts/dropout.h"

namespace gatewright {
namespace {

/// Once for each token that an expert serves.
Tensor with_output_bias(const Tensor& sum, const Assignment& assignment, const Tensor& bias) {
  if (!bias.defined()) return sum;
  const Tensor served = at::zeros({assignment.num_tokens}, sum.options().requires_grad(false))
                            .index_fill(0, assignment.token, 1);
  return sum + served.unsqueeze(1) * bias.to(sum.scalar_type());
}

FeedForwardOptions with_initial_size(FeedForwardOptions options, const ExpertSizes& sizes) {
  if (options.width == 0) options.width = default_ffn_width(sizes.hidden_size, options.activation);
  if (sizes.num_experts < 1 || options.width % sizes.num_experts != 0)
    fail_usage(
        "[mlp_union] a width of {} cannot be cut into {} equal experts; choose a number that divides it",
        options.width, sizes.num_experts);
  const int64_t slice = options.width / sizes.num_experts;
  if (options.init == 0) options.init = std::sqrt(2.0 / static_cast<double>(sizes.hidden_size + slice));
  return options;
}

}  // namespace

FfnTensors union_slices(const FfnTensors& dense, int64_t experts) {
  require(dense.up.defined() && dense.up.dim() == 2, "[mlp_union] a dense feed-forward [F, H] was expected");
  const int64_t width = dense.up.size(0), hidden = dense.up.size(1);
  if (experts < 1 || width % experts != 0)
    fail_usage(
        "[mlp_union] a width of {} cannot be cut into {} equal experts; choose a number that divides it",
        width, experts);
  const int64_t slice = width / experts;
  const auto rows = [&](const Tensor& weight) {
    return weight.defined() ? weight.view({experts, slice, hidden}) : weight;
  };
  const auto values = [&](const Tensor& bias) { return bias.defined() ? bias.view({experts, slice}) : bias; };
  return {.gate = rows(dense.gate),
          .up = rows(dense.up),
          .down = dense.down.view({hidden, experts, slice}).permute({1, 0, 2}),
          .gate_bias = values(dense.gate_bias),
          .up_bias = values(dense.up_bias)};
}

Tensor mlp_union(const Tensor& hidden, const Assignment& assignment, const FfnTensors& dense,
                 Activation activation, bool recompute) {
  const FfnTensors slices = union_slices(dense, assignment.num_experts());
  return with_output_bias(expert_ffn(hidden, assignment, slices, activation, recompute), assignment,
                          dense.down_bias);
}

MlpUnion::MlpUnion(const ExpertSizes& sizes, const FeedForwardOptions& options, RandomStream& random)
    : num_experts_(sizes.num_experts),
      layer_(sizes.layer),
      dense_(make_ffn_parameters(0, sizes.hidden_size, with_initial_size(options, sizes), random)),
      activation_(options.activation),
      recompute_(options.recompute),
      dropout_(options.dropout) {}

Tensor MlpUnion::forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext& context) {
  require(assignment.num_experts() == num_experts_,
          "layer {}: an assignment for {} experts reached a union of {} experts", layer_,
          assignment.num_experts(), num_experts_);
  if (!context.training || dropout_ == 0)
    return mlp_union(hidden, assignment, dense_, activation_, recompute_);
  const auto thinned = [&](const Tensor& x) { return dropout(x, dropout_, context); };
  const Tensor sum = expert_ffn_by_tensor_operations(hidden, assignment, union_slices(dense_, num_experts_),
                                                     activation_, thinned);
  return thinned(with_output_bias(sum, assignment, dense_.down_bias));
}

void MlpUnion::collect(ParameterList& parameters, const std::string& prefix) const {
  collect_ffn(dense_, parameters, prefix);
}

int64_t MlpUnion::parameters_per_token() const {
  return dense_.down_bias.defined() ? dense_.down_bias.numel() : 0;
}

int64_t MlpUnion::parameters_per_expert() const {
  return (ffn_parameters(dense_) - parameters_per_token()) / num_experts_;
}

}  // namespace gatewright

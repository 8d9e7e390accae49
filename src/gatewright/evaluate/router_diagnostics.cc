#include "gatewright/evaluate/router_diagnostics.h"

#include <algorithm>
#include <numbers>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/evaluate/routing_analysis.h"
#include "gatewright/routing/balance/terms.h"

namespace gatewright {

namespace {

/// float64 [T, E]: 1 where a token visits an expert.
Tensor visits(const Assignment& assignment) {
  const int64_t num_experts = assignment.num_experts();
  return at::zeros({assignment.num_tokens * num_experts},
                   at::TensorOptions().dtype(at::kDouble).device(assignment.token.device()))
      .index_fill(0, assignment.token * num_experts + expert_of_pairs(assignment), 1)
      .view({assignment.num_tokens, num_experts});
}

}  // namespace

double choice_information(const Tensor& first, const Tensor& second, int64_t num_experts) {
  require(first.dim() == 1 && first.sizes() == second.sizes(),
          "mutual information needs two choices of the same tokens, got {} and {}", first.numel(),
          second.numel());
  const auto count = static_cast<size_t>(num_experts);
  std::vector<std::vector<double>> joint(count, std::vector<double>(count));
  const Tensor a = first.to(at::kCPU).contiguous(), b = second.to(at::kCPU).contiguous();
  for (int64_t t = 0; t < a.numel(); ++t) {
    const int64_t row = a.data_ptr<int64_t>()[t], column = b.data_ptr<int64_t>()[t];
    require(row >= 0 && row < num_experts && column >= 0 && column < num_experts,
            "token {} has the experts {} and {}; the experts are 0 to {}", t, row, column, num_experts - 1);
    ++joint[static_cast<size_t>(row)][static_cast<size_t>(column)];
  }
  return mutual_information(joint) * std::numbers::ln2;
}

double layer_information(const RoutingRecord& first, const RoutingRecord& second) {
  return choice_information(
      first.scores.probabilities.argmax(-1), second.scores.probabilities.argmax(-1),
      std::max(first.scores.probabilities.size(1), second.scores.probabilities.size(1)));
}

Tensor co_activation(const RoutingRecord& first, const RoutingRecord& second) {
  require(first.assignment.num_tokens == second.assignment.num_tokens,
          "co-activation needs two choices of the same tokens, got {} and {}", first.assignment.num_tokens,
          second.assignment.num_tokens);
  return visits(first.assignment).t().mm(visits(second.assignment));
}

double gate_entropy(const RoutingRecord& record) {
  return mean_entropy(distribution(record.scores).detach()).item<double>();
}

double expert_similarity(const Tensor& weights) {
  require(weights.dim() >= 2 && weights.size(0) >= 2,
          "the similarity of experts needs the weights of at least two, [E, ...]");
  const Tensor flat = weights.detach().to(at::kDouble).flatten(1);
  const Tensor unit = flat / flat.norm(2, -1, /*keepdim=*/true).clamp_min(1e-30);
  const Tensor cosine = unit.mm(unit.t());
  const double count = static_cast<double>(flat.size(0));
  return (cosine.sum() - cosine.diagonal().sum()).item<double>() / (count * (count - 1));
}

}  // namespace gatewright

#include "gatewright/routing/record.h"

namespace gatewright {

double load_imbalance(const Tensor& counts) {
  const double total = counts.sum().item<double>();
  if (total == 0) return 0;
  return counts.max().item<double>() * static_cast<double>(counts.numel()) / total - 1;
}

int64_t dead_experts(const Tensor& counts) { return (counts == 0).sum().item<int64_t>(); }

std::vector<float> margins(const RoutingRecord& record) {
  const Tensor scores = selection_scores(record.scores, record.reads).to(at::kCPU).contiguous();
  const std::span<const float> values(scores.data_ptr<float>(), static_cast<size_t>(scores.numel()));
  return choice::margins({.values = values, .num_tokens = scores.size(0), .num_experts = scores.size(1)},
                         choice::by_token(to_pairs(record.assignment)));
}

}  // namespace gatewright

#include "gatewright/routing/switch_gate.h"

#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright {

Tensor switch_gate(const Tensor& probabilities, int64_t top_k, choice::GateNormalisation normalisation,
                   double capacity_factor) {
  require(probabilities.dim() == 3, "[switch_gate] probabilities [B, T, E] were expected, got {} axes",
          probabilities.dim());
  const int64_t sequences = probabilities.size(0), num_experts = probabilities.size(2);
  if (top_k < 1 || top_k > num_experts)
    fail_usage("[switch_gate] top_k = {} of {} experts; choose 1 to {}", top_k, num_experts, num_experts);
  Tensor result = probabilities.detach().to(at::kCPU, at::kFloat).contiguous().clone();
  if (result.numel() == 0) return result;
  const choice::ScoreRows rows{.values = {result.data_ptr<float>(), static_cast<size_t>(result.numel())},
                               .num_tokens = sequences * probabilities.size(1),
                               .num_experts = num_experts};
  const choice::Rows chosen = choice::TopK(top_k).choose(rows, {}).rows;
  const std::vector<float> scores =
      choice::gate_scores(rows, chosen, normalisation, capacity_factor, sequences);
  std::memcpy(result.data_ptr<float>(), scores.data(), scores.size() * sizeof(float));
  return result.to(probabilities.device());
}

}  // namespace gatewright

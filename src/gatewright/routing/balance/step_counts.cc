#include "gatewright/routing/balance/step_counts.h"

#include "gatewright/routing/process_group.h"

namespace gatewright {

Counts& Counts::operator+=(const Counts& other) {
  experts = experts.defined() ? experts.to(other.experts.device()) + other.experts : other.experts;
  tokens += other.tokens;
  batches += other.batches;
  return *this;
}

Counts over_processes(const Tensor& experts, int64_t tokens, const RoutingContext& context) {
  const auto own_tokens = static_cast<double>(tokens);
  if (context.processes == nullptr) return {.experts = experts, .tokens = own_tokens, .batches = 1};
  // float64 counts exactly; the tokens travel with the counts.
  const Tensor own =
      at::cat({experts.detach().to(at::kCPU, at::kDouble), at::full({1}, own_tokens, at::kDouble)});
  const Tensor all = context.processes->sum(own);
  const int64_t num_experts = experts.size(0);
  return {.experts = all.slice(0, 0, num_experts).to(experts.options()),
          .tokens = all[num_experts].item<double>(),
          .batches = context.processes->size()};
}

void StepCounts::add(const Counts& counts, const RoutingContext& context) {
  if (context.micro_batch >= 0 && context.micro_batch == last_) return;
  last_ = context.micro_batch;
  total_ += counts;
}

}  // namespace gatewright

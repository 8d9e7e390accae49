#include "gatewright/routing/balance/expert_budget.h"

#include <algorithm>
#include <cmath>

namespace gatewright {

double next_budget_factor(double factor, double wanted, double visited, double rate) {
  constexpr double kFarthest = 10;      // a step sees no more of the distance
  constexpr double kExtreme = 1 << 20;  // of a budget that cannot be reached
  const double ratio = std::clamp(visited / wanted, 1 / kFarthest, kFarthest);
  const double next = factor * std::pow(ratio, rate);
  return std::clamp(next, 1 / kExtreme, kExtreme);
}

ExpertBudget::ExpertBudget(double experts_per_token, double rate)
    : wanted_(experts_per_token), rate_(rate), factor_(at::ones({1}, at::kFloat)) {}

void ExpertBudget::before_choice(Scores& scores) {
  if (wanted_ > 0) scores.selection_factor *= factor_.item<double>();
}

Tensor ExpertBudget::loss(const Scores&, const Assignment& assignment, const RoutingContext& context) {
  if (wanted_ > 0 && context.training)
    counts_.add(over_processes(expert_counts(assignment), assignment.num_tokens, context), context);
  return {};
}

std::optional<double> ExpertBudget::observation() const {
  const Counts& counts = counts_.total();
  if (counts.tokens == 0) return std::nullopt;
  return counts.experts.sum().item<double>() / counts.tokens;
}

void ExpertBudget::observe(double experts_per_token) {
  factor_.fill_(next_budget_factor(factor_.item<double>(), wanted_, experts_per_token, rate_));
}

void ExpertBudget::collect(ParameterList& parameters, const std::string& prefix) const {
  parameters.push_back(
      {.name = prefix + ".selection_factor", .tensor = factor_, .weight_decay = false, .trainable = false});
}

}  // namespace gatewright

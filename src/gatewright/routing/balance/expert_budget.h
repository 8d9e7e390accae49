// How many experts a token visits on average, held at a wanted number while routers learn.
#pragma once

#include "gatewright/routing/balance.h"
#include "gatewright/routing/balance/step_counts.h"

namespace gatewright {

/// The factor of the next step: multiplied by (visited / wanted)^rate, at most by 10^rate either way.
/// @param visited  experts a token, as a mean
double next_budget_factor(double factor, double wanted, double visited, double rate);

/// No loss: what top-p adds up is multiplied by a factor, the same in all layers, that follows the number of
/// experts a token visits, as a mean over the layers. So routers that become surer do not leave the budget:
/// top-p with the factor f is top-p with p / f.
class ExpertBudget final : public BalanceTerm {
 public:
  /// experts_per_token: 0 leaves the choice alone.
  ExpertBudget(double experts_per_token, double rate);
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  void before_choice(Scores& scores) override;
  /// Experts a token visits in this layer, over the step's micro-batches and all processes.
  std::optional<double> observation() const override;
  void observe(double experts_per_token) override;
  void end_step() override { counts_.clear(); }
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  double wanted_, rate_;
  Tensor factor_;  // [1]
  StepCounts counts_;
};

}  // namespace gatewright

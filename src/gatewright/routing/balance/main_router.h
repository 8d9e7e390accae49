// Keeps every sub-router of the scorer mixture in use (an option of "Mixture of Routers" 2025, arXiv
// 2503.23362).
#pragma once

#include "gatewright/routing/balance.h"

namespace gatewright {

/// main_router_loss (scorers/mixture.h) of the layer's main router, which the scorer left in the state of the
/// pass.
class MainRouterBalance final : public BalanceTerm {
 public:
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
};

}  // namespace gatewright

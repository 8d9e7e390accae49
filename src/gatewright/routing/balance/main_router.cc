#include "gatewright/routing/balance/main_router.h"

#include "gatewright/base/error.h"
#include "gatewright/routing/scorers/mixture.h"

namespace gatewright {

Tensor MainRouterBalance::loss(const Scores& scores, const Assignment&, const RoutingContext& context) {
  if (scores.num_tokens() == 0) return {};
  const Tensor main = carried(context.carried, MixtureScorer::kMainLogWeights);
  require(
      main.defined(),
      "layer {}: [main_router] reads the weights of the scorer mixture from the state of the forward pass, "
      "and the context has none",
      context.layer);
  return main_router_loss(main);
}

}  // namespace gatewright

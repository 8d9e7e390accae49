// A router called with plain tensors: no recipe, no model, no trainer.
#include "gatewright/routing/router.h"

#include <fmt/format.h>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/scorers/scorers.h"

using namespace gatewright;

int main() {
  RandomStream random(/*seed=*/1, "example");
  Router router(std::make_unique<LinearScorer>(RouterSizes{.hidden_size = 64, .num_experts = 8},
                                               /*bias=*/false, /*init=*/0.02, random),
                std::make_unique<choice::TopK>(2), choice::Activation::kSoftmax,
                {.weighting = choice::Weighting::kRenormalised});
  const Tensor hidden = at::randn({16, 64});              // [T, H]
  const RoutingRecord record = router.route(hidden, {});  // who visits whom, with what weight
  const Tensor load = expert_counts(record.assignment);   // [E] tokens of each expert
  for (int64_t e = 0; e < load.size(0); ++e) fmt::print("expert {}: {} tokens\n", e, load[e].item<float>());
  fmt::print("{} pairs, imbalance {:.2f}\n", record.assignment.num_pairs(), load_imbalance(load));
}

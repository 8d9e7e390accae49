// A layer of experts trained for a few steps: the pieces by name, the balance loss beside the task's.
#include <fmt/format.h>

#include "gatewright/experts/registry.h"
#include "gatewright/routing/router.h"

using namespace gatewright;

namespace {

/// One step of plain gradient descent.
void descend(const ParameterList& parameters, double rate) {
  const at::NoGradGuard no_gradient;
  for (const NamedTensor& p : parameters) {
    Tensor value = p.tensor;
    if (!p.trainable || !value.grad().defined()) continue;
    value.sub_(value.grad(), rate);
    value.mutable_grad().reset();
  }
}

}  // namespace

int main() {
  RandomStream random(/*seed=*/1, "example");
  const RouterSpec spec{.scorer = make_piece(scorers(), "linear", {{"init", 0.1}}),
                        .selector = make_piece(choice::selectors(), "top_p", {{"top_p", 0.6}}),
                        .weights = {.weighting = choice::Weighting::kRenormalised},
                        .balance = {make_piece(balance_terms(), "switch", {{"weight", 0.01}})}};
  Router router(spec, {.hidden_size = 16, .num_experts = 4}, random);
  const auto experts = make_expert_bank(make_piece(expert_banks(), "swiglu", {{"init", 0.2}}), {},
                                        {.hidden_size = 16, .num_experts = 4}, random);
  ParameterList parameters;
  router.collect(parameters, "gate");
  experts->collect(parameters, "mlp");

  const Tensor hidden = normal_parameter({256, 16}, 1.0, random).detach();
  const Tensor target = hidden.sin();
  for (int64_t step = 0; step < 200; ++step) {
    const RoutingRecord record = router.route(hidden, {.training = true, .step = step});
    const Tensor error = (experts->forward(hidden, record.assignment) - target).square().mean();
    (error + record.loss).backward();
    descend(parameters, 0.5);
    router.end_step();
    if (step % 50 == 0 || step == 199)
      fmt::print("step {}: error {:.3f}, {} {:.3f}, {:.2f} experts a token\n", step, error.item<double>(),
                 record.balance[0].name, record.balance[0].value.item<double>(),
                 static_cast<double>(record.assignment.num_pairs()) / 256);
  }
}

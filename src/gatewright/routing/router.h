// A router: scorer, selector, weights and balance terms put together. score -> select -> assignment.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/record.h"
#include "gatewright/routing/router_spec.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/routing/selectors/tensor_choice.h"
#include "gatewright/routing/weights.h"

namespace gatewright {

class Router {
 public:
  /// The pieces as objects; no registry needed.
  Router(std::unique_ptr<Scorer> scorer, std::unique_ptr<choice::Selector> selector,
         choice::Activation activation = choice::Activation::kSoftmax, choice::WeightRule weights = {},
         std::vector<WeightedTerm> balance = {});
  /// The pieces by name; fails with router_problems when there are any. `random` draws the initial weights.
  Router(const RouterSpec& spec, const RouterSizes& sizes, RandomStream& random);
  /// For another round of a layer whose rounds share their gate: scorer and gain are those of `first`, which
  /// collects them; the balance terms count by themselves.
  Router(const RouterSpec& spec, const RouterSizes& sizes, const Router& first);

  /// hidden [T, H] of any float type -> who visits whom. Everything here is float32, also under autocast. NaN
  /// in the scores is an error that names the layer.
  RoutingRecord route(const Tensor& hidden, const RoutingContext& context);

  /// Whether a token's choice depends on its own scores only, and so is the same in generation.
  bool chooses_token_by_token() const { return selector_->looks_at_one_row(); }

  /// Whether a balance term wants to count the micro-batches of a step before the first is learned from:
  /// `route` is then called for each with context.counting.
  bool wants_counting_pass() const;
  /// What the terms observed in this step, by name; of those that did.
  std::map<std::string, double> observations() const;
  /// Before end_step: the same as means over the model's layers.
  void observe(const std::map<std::string, double>& means);
  /// After each optimiser step: rules without a loss act, buffers over micro-batches are emptied.
  void end_step();
  void collect(ParameterList& parameters, const std::string& prefix) const;
  /// The balance terms, in their order.
  std::vector<WeightedTerm>& balance() { return balance_; }

 private:
  choice::Selection select(const Scores& scores, const RoutingContext& context) const;
  void add_balance(RoutingRecord& record, const Assignment& chosen, const RoutingContext& context);

  std::shared_ptr<Scorer> scorer_;
  std::unique_ptr<choice::Selector> selector_;
  TensorChoice tensor_choice_;  // used on CUDA when there is one
  choice::Activation activation_;
  choice::WeightRule weights_;
  std::vector<WeightedTerm> balance_;
  Tensor gain_;  // [E] factors of the scores, with the activation relu_rms
  bool owns_gate_ = true;
};

/// The balance terms over all layers of one forward pass: the value of each stands in the record of the last
/// layer that has it, and its loss is added to that record's. routers[i] made records[i].
void add_network_balance(const std::vector<Router*>& routers, std::vector<RoutingRecord>& records,
                         int64_t step);

}  // namespace gatewright

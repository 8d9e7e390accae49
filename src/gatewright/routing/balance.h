// Balance terms: what is added to the training loss so that experts are used as one wishes, and rules that
// act after each step without a loss.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/base/registry.h"
#include "gatewright/routing/assignment.h"
#include "gatewright/routing/context.h"
#include "gatewright/routing/named_tensor.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/routing/scores.h"

namespace gatewright {

struct RoutingRecord;

class BalanceTerm {
 public:
  virtual ~BalanceTerm() = default;
  /// `assignment` is the choice before any capacity limit.
  /// The term for one micro-batch, a float32 scalar with gradient and without its weight; undefined when the
  /// term has no loss.
  virtual Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) = 0;
  /// Whether the term is over all layers together: then it has no loss of one layer, and network_loss is
  /// asked once a forward pass, of the first layer's term.
  virtual bool over_network() const { return false; }
  /// The same as loss, of the layers that have this term, in order.
  virtual Tensor network_loss(const std::vector<const RoutingRecord*>& /*layers*/) { return {}; }
  /// Changes what the selector sees before it chooses (loss-free bias).
  virtual void before_choice(Scores&) {}
  /// Whether count() must see all micro-batches of a step before loss() sees the first.
  virtual bool wants_counting_pass() const { return false; }
  /// One micro-batch of the counting pass.
  virtual void count(const Assignment&, const RoutingContext&) {}
  /// Multiplies the weight of the step that comes.
  virtual double factor() const { return 1; }
  /// A number of the step so far that the layers average; none when the term wants none.
  virtual std::optional<double> observation() const { return std::nullopt; }
  /// After each optimiser step, before end_step: the mean observation of the layers that have the term.
  virtual void observe(double /*mean*/) {}
  /// Called after each optimiser step.
  virtual void end_step() {}
  /// State that checkpoints keep (not trained).
  virtual void collect(ParameterList&, const std::string& /*prefix*/) const {}
};

/// A term with its name and the schedule of its weight.
struct WeightedTerm {
  std::string name;
  std::unique_ptr<BalanceTerm> term;
  double weight = 0;              // at step 0
  double final_weight = 0;        // from step `over_steps` on
  int64_t over_steps = 0;         // linear in between; 0: constant
  bool mean_over_layers = false;  // the weight is divided by the number of the model's routed layers

  double weight_at(int64_t step) const;
  /// In one of `num_routed_layers` layers.
  double weight_in_layer(int64_t step, int64_t num_routed_layers) const;
};

using BalanceFactory = std::function<std::unique_ptr<BalanceTerm>(const Values&, const RouterSizes&)>;
/// The balance terms by name: the one list to touch when adding one. Each with a loss
/// has the parameters weight, final_weight, over_steps and over_layers besides its own.
const Registry<BalanceFactory>& balance_terms();

/// A term by name from values checked against its specification.
WeightedTerm make_balance_term(const std::string& name, const Values& values, const RouterSizes& sizes);

}  // namespace gatewright

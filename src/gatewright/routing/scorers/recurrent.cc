#include "gatewright/routing/scorers/recurrent.h"

#include <cmath>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

constexpr const char *kCell = "rnn_router", *kState = "recurrent.state",
                     *kResidual = "residual_logits.log_probabilities";

GateWeights gate(int64_t size, double init, RandomStream& random) {
  GateWeights g;
  g.input = normal_parameter({size, size}, init, random);
  g.hidden = normal_parameter({size, size}, init, random);
  g.input_bias = normal_parameter({size}, init, random);
  g.hidden_bias = normal_parameter({size}, init, random);
  return g;
}

void collect_gate(const GateWeights& g, ParameterList& parameters, const std::string& prefix, char letter) {
  if (!g.input.defined()) return;
  parameters.push_back({.name = prefix + ".weight_i" + letter, .tensor = g.input});
  parameters.push_back({.name = prefix + ".weight_h" + letter, .tensor = g.hidden});
  parameters.push_back({.name = prefix + ".bias_i" + letter, .tensor = g.input_bias, .weight_decay = false});
  parameters.push_back({.name = prefix + ".bias_h" + letter, .tensor = g.hidden_bias, .weight_decay = false});
}

}  // namespace

Tensor gru_cell(const Tensor& input, const Tensor& state, const GruWeights& w) {
  const auto stacked = [&](Tensor GateWeights::*part) {
    return at::cat({w.reset.*part, w.update.*part, w.candidate.*part});
  };
  return at::gru_cell(input, state, stacked(&GateWeights::input), stacked(&GateWeights::hidden),
                      stacked(&GateWeights::input_bias), stacked(&GateWeights::hidden_bias));
}

Tensor rnn_cell(const Tensor& input, const Tensor& state, const GateWeights& w) {
  return at::rnn_tanh_cell(input, state, w.input, w.hidden, w.input_bias, w.hidden_bias);
}

RecurrentCell::RecurrentCell(const RecurrentOptions& options, int64_t hidden_size, RandomStream& random) {
  require(options.size >= 1, "[recurrent] recurrent_size must be at least 1, got {}", options.size);
  if (options.gru) {
    weights_.reset = gate(options.size, options.init, random);
    weights_.update = gate(options.size, options.init, random);
  }
  weights_.candidate = gate(options.size, options.init, random);
  if (options.shared_projector)
    projector_ = normal_parameter({options.size, hidden_size}, options.init, random);
}

Tensor RecurrentCell::step(const Tensor& input, const Tensor& state) const {
  return weights_.reset.input.defined() ? gru_cell(input, state, weights_)
                                        : rnn_cell(input, state, weights_.candidate);
}

void RecurrentCell::collect(ParameterList& parameters, const std::string& prefix) const {
  collect_gate(weights_.reset, parameters, prefix, 'r');
  collect_gate(weights_.update, parameters, prefix, 'z');
  collect_gate(weights_.candidate, parameters, prefix, 'n');
  if (projector_.defined()) parameters.push_back({.name = prefix + ".projector", .tensor = projector_});
}

RecurrentScorer::RecurrentScorer(const RouterSizes& sizes, const RecurrentOptions& options,
                                 RandomStream& random)
    : owns_cell_(sizes.network == nullptr), state_(options.state) {
  const auto make = [&](RandomStream& r) {
    return std::make_shared<RecurrentCell>(options, sizes.hidden_size, r);
  };
  cell_ = owns_cell_ ? make(random) : sizes.network->get<RecurrentCell>(kCell, make);
  require(cell_->size() == options.size,
          "[recurrent] recurrent_size = {}, but the cell that the layers of this network share has size {}",
          options.size, cell_->size());
  require(cell_->projector().defined() == options.shared_projector,
          "[recurrent] shared_projector must be the same in all layers of a network");
  projector_ = options.shared_projector
                   ? cell_->projector()
                   : normal_parameter({options.size, sizes.hidden_size}, options.init, random);
  weight_ = normal_parameter({sizes.num_experts, options.size}, options.init, random);
}

Tensor RecurrentScorer::logits(const Tensor& hidden, const RoutingContext& context) {
  check_width(hidden, projector_, context);
  Tensor below = carried(context.carried, kState);
  if (state_ == RecurrentOptions::State::kNotPassing || !below.defined())
    below = at::zeros({hidden.size(0), cell_->size()}, hidden.options());
  if (state_ == RecurrentOptions::State::kDetach) below = below.detach();
  Tensor state = cell_->step(hidden.mm(projector_.t()), below);
  const Tensor result = state.mm(weight_.t());
  if (context.carried) context.carried->insert_or_assign(kState, std::move(state));
  return result;
}

void RecurrentScorer::collect(ParameterList& parameters, const std::string& prefix) const {
  if (owns_cell_) cell_->collect(parameters, prefix + "." + kCell);
  if (!cell_->projector().defined())
    parameters.push_back({.name = prefix + ".weight1", .tensor = projector_});
  parameters.push_back({.name = prefix + ".weight2", .tensor = weight_});
}

Tensor residual_log_probabilities(const Tensor& logits, const Tensor& below, double alpha) {
  const Tensor own = at::log_softmax(logits, -1);
  return below.defined() && alpha > 0 ? at::logaddexp(own, below + std::log(alpha)) : own;
}

ResidualLogits::ResidualLogits(std::unique_ptr<Scorer> inner, double alpha)
    : inner_(std::move(inner)), alpha_(alpha) {
  require(alpha >= 0, "[residual_logits] alpha must be at least 0, got {}", alpha);
}

Tensor ResidualLogits::logits(const Tensor& hidden, const RoutingContext& context) {
  const Tensor below = carried(context.carried, kResidual);
  const Tensor own = inner_->logits(hidden, context);
  require(!below.defined() || below.sizes() == own.sizes(),
          "layer {}: [residual_logits] adds {} experts to the {} of the layer below; all must have the same "
          "number",
          context.layer, own.size(1), below.defined() ? below.size(1) : 0);
  Tensor result = residual_log_probabilities(own, below, alpha_);
  if (context.carried) context.carried->insert_or_assign(kResidual, result);
  return result;
}

}  // namespace gatewright

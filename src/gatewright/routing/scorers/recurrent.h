// The recurrent scorer (Qiu et al. 2024, "Layerwise Recurrent Router for Mixture-of-Experts", arXiv
// 2408.06793): a small state that each token carries through the routers of all layers. The recurrence is
// over depth: it begins at zero in every forward pass, and nothing is kept for a position.
#pragma once

#include "gatewright/routing/scorer.h"

namespace gatewright {

/// Weights of one gate of a cell of size P: input and hidden matrices [P, P] and their biases [P].
struct GateWeights {
  Tensor input, hidden, input_bias, hidden_bias;
};
struct GruWeights {
  GateWeights reset, update, candidate;
};

/// One step of a gated recurrent unit (Cho et al. 2014, with the reset gate after the hidden product):
///   r = sigmoid(Wir u + bir + Whr h + bhr),  z = sigmoid(Wiz u + biz + Whz h + bhz),
///   n = tanh(Win u + bin + r (Whn h + bhn)),  h' = (1 - z) n + z h
/// input u and state h [T, P] -> h' [T, P]; any float type, that of the weights.
Tensor gru_cell(const Tensor& input, const Tensor& state, const GruWeights& weights);
/// h' = tanh(Win u + bin + Whn h + bhn), the same shapes.
Tensor rnn_cell(const Tensor& input, const Tensor& state, const GateWeights& weights);

struct RecurrentOptions {
  int64_t size = 128;             // P
  bool gru = true;                // or the plain cell
  bool shared_projector = false;  // one projector [P, H] for all layers
  double init = 0.02;             // standard deviation of every initial weight, the cell's biases included
  enum class State { kPassed, kNotPassing, kDetach } state = State::kPassed;
};

/// The cell that all layers share, and their projector when that is shared, too.
class RecurrentCell final : public SharedModule {
 public:
  RecurrentCell(const RecurrentOptions& options, int64_t hidden_size, RandomStream& random);
  /// input and state [T, P] -> the new state [T, P]
  Tensor step(const Tensor& input, const Tensor& state) const;
  /// ".weight_ir", ".weight_hr", ".bias_ir", ".bias_hr", likewise z and n, and ".projector".
  void collect(ParameterList& parameters, const std::string& prefix) const override;
  int64_t size() const { return weights_.candidate.input.size(0); }
  const Tensor& projector() const { return projector_; }

 private:
  GruWeights weights_;  // reset and update undefined in a plain cell
  Tensor projector_;    // [P, H], or undefined
};

/// logits = h' W2^T with h' = cell(W1 x, h) and h the state of the layer below. W1 [P, H], W2 [E, P].
class RecurrentScorer final : public Scorer {
 public:
  /// The cell is that of sizes.network; without a network the scorer has one for itself.
  RecurrentScorer(const RouterSizes& sizes, const RecurrentOptions& options, RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  std::shared_ptr<RecurrentCell> cell_;
  bool owns_cell_;
  RecurrentOptions::State state_;
  Tensor projector_, weight_;
};

/// Adds to each layer's probabilities alpha times those of the layer below, without a learned state (the
/// "residual logits" ablation of the same paper): g_l = softmax(logits_l) + alpha g_(l-1). Its logits are ln
/// g_l, whose softmax is g_l over its sum.
class ResidualLogits final : public Scorer {
 public:
  ResidualLogits(std::unique_ptr<Scorer> inner, double alpha);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override {
    inner_->collect(parameters, prefix);
  }

 private:
  std::unique_ptr<Scorer> inner_;
  double alpha_;
};

/// ln(softmax(logits) + alpha exp(below)), [T, E]; `below` is what this function gave in the layer below, or
/// undefined.
Tensor residual_log_probabilities(const Tensor& logits, const Tensor& below, double alpha);

}  // namespace gatewright

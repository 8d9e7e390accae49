// Scorers around a scorer: what changes hidden states or logits before the choice.
#pragma once

#include "gatewright/routing/scorer.h"

namespace gatewright {

/// In training, multiplies the router's input by uniform(1 - epsilon, 1 + epsilon), element by element (Fedus
/// et al. 2021, Switch Transformers, section 2.2).
class Jitter final : public Scorer {
 public:
  Jitter(std::unique_ptr<Scorer> inner, double epsilon);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override {
    inner_->collect(parameters, prefix);
  }

 private:
  std::unique_ptr<Scorer> inner_;
  double epsilon_;
};

/// In training, adds normal noise to the logits: of a fixed standard deviation, or of softplus(W h), learned
/// (Shazeer et al. 2017, eq. 4; W starts at zero).
class Noise final : public Scorer {
 public:
  Noise(std::unique_ptr<Scorer> inner, double standard_deviation, bool learned, const RouterSizes& sizes);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  std::unique_ptr<Scorer> inner_;
  double standard_deviation_;
  Tensor weight_;  // [E, H], when learned
};

/// Adds fixed values to the logits: to steer a trained router by hand.
class LogitBias final : public Scorer {
 public:
  LogitBias(std::unique_ptr<Scorer> inner, const std::vector<double>& bias, const RouterSizes& sizes);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override {
    inner_->collect(parameters, prefix);
  }

 private:
  std::unique_ptr<Scorer> inner_;
  Tensor bias_;  // [E]
};

/// Experts that cannot be chosen: their logits become -inf, and a softmax is over the others, as if the
/// experts had been pruned.
class Omit final : public Scorer {
 public:
  Omit(std::unique_ptr<Scorer> inner, const std::vector<int64_t>& experts, const RouterSizes& sizes);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override {
    inner_->collect(parameters, prefix);
  }

 private:
  std::unique_ptr<Scorer> inner_;
  Tensor omitted_;  // bool [E]
};

}  // namespace gatewright

// The basic scorers.
#pragma once

#include "gatewright/routing/scorer.h"

namespace gatewright {

/// logits = W h (+ b): the router of Switch, Mixtral, OLMoE, Qwen, DeepSeek. W [E, H], normal(0, init) and
/// b = 0; or both uniform in +- 1 / sqrt(H) (Kaiming's rule with a = sqrt 5, what most frameworks give a
/// linear layer).
class LinearScorer final : public Scorer {
 public:
  LinearScorer(const RouterSizes& sizes, bool bias, double standard_deviation, RandomStream& random);
  /// With the uniform weights.
  static std::unique_ptr<LinearScorer> kaiming_uniform(const RouterSizes& sizes, bool bias,
                                                       RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  LinearScorer() = default;
  Tensor weight_, bias_;
};

/// logits = cos(P h, e_i) / temperature with a learnable temperature (Chi et al. 2022, "On the Representation
/// Collapse of Sparse Mixture of Experts", eq. 4-6). P [D, H], embeddings [E, D]; the logarithm of the
/// temperature is the parameter, so that it stays positive.
class CosineScorer final : public Scorer {
 public:
  CosineScorer(const RouterSizes& sizes, int64_t projection_size, double temperature, RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  Tensor projection_, embedding_, log_temperature_;
};

/// logits = W2 act(W1 h + b1) + b2.
class MlpScorer final : public Scorer {
 public:
  enum class Nonlinearity { kTanh, kRelu, kSilu };
  MlpScorer(const RouterSizes& sizes, int64_t width, Nonlinearity nonlinearity, double standard_deviation,
            RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  Tensor weight1_, bias1_, weight2_, bias2_;
  Nonlinearity nonlinearity_;
};

/// Logits are a fixed pseudo-random function of the token id (Roller et al. 2021, "Hash Layers"): uniform in
/// [0, spread), so that a small spread gives nearly equal weights. No parameters.
class HashScorer final : public Scorer {
 public:
  HashScorer(const RouterSizes& sizes, int64_t seed, double spread);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList&, const std::string&) const override {}

 private:
  int64_t num_experts_, seed_;
  double spread_;
};

/// New normal(0, std) logits at each call, whatever the token.
class RandomScorer final : public Scorer {
 public:
  RandomScorer(const RouterSizes& sizes, double standard_deviation);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList&, const std::string&) const override {}

 private:
  int64_t num_experts_;
  double standard_deviation_;
};

/// Logits of zero for every expert, without parameters: for selectors that do not ask.
class UniformScorer final : public Scorer {
 public:
  explicit UniformScorer(const RouterSizes& sizes) : num_experts_(sizes.num_experts) {}
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList&, const std::string&) const override {}

 private:
  int64_t num_experts_;
};

/// logits = W h + b that are drawn once and never trained (Chen et al. 2023, "Sparse MoE as the New Dropout",
/// arXiv 2303.01610): W [E, H] and b [E] uniform in +- gate_scale / sqrt(H). gate_scale 0 gives equal
/// weights.
class FixedLinearScorer final : public Scorer {
 public:
  FixedLinearScorer(const RouterSizes& sizes, double gate_scale, RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  Tensor weight_, bias_;
};

}  // namespace gatewright

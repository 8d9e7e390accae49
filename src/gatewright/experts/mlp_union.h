// A dense feed-forward as a union of experts (Union of Experts 2025, arXiv 2503.02495): expert e of E owns
// the e-th slice of the inner width, and with all experts and weights of 1 the sum is the dense feed-forward.
#pragma once

#include "gatewright/experts/feed_forward.h"

namespace gatewright {

/// The slices of a dense feed-forward (parameters without the first axis) as stacked experts, without output
/// biases. Gradients reach the dense parameters; first layers are views. Fails when `experts` does not divide
/// the width.
FfnTensors union_slices(const FfnTensors& dense, int64_t experts);

/// hidden [T, H] -> [T, H]: the sum over a token's experts of weight x W2_e act(W1_e hidden + b1_e), and the
/// output bias once for a token that any expert serves. A token without an expert gets zero.
Tensor mlp_union(const Tensor& hidden, const Assignment& assignment, const FfnTensors& dense,
                 Activation activation, bool recompute = false);

/// The options are of the whole feed-forward. Initial weights are normal: of standard deviation init, or with
/// init = 0 Xavier's for one expert, sqrt(2 / (H + F / E)).
class MlpUnion final : public ExpertBank {
 public:
  MlpUnion(const ExpertSizes& sizes, const FeedForwardOptions& options, RandomStream& random);
  using ExpertBank::forward;
  Tensor forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext& context) override;
  /// As a dense layer has them: ".up_proj.weight" and so on.
  void collect(ParameterList& parameters, const std::string& prefix) const override;
  int64_t num_experts() const override { return num_experts_; }
  double flops_per_pair() const override { return ffn_flops(dense_) / static_cast<double>(num_experts_); }
  int64_t parameters_per_expert() const override;
  int64_t parameters_per_token() const override;

 private:
  int64_t num_experts_, layer_;
  FfnTensors dense_;
  Activation activation_;
  bool recompute_;
  double dropout_;
};

}  // namespace gatewright

// Shared experts: a dense feed-forward that every token visits, added to the routed sum (DeepSeekMoE, Dai et
// al. 2024, eq. 9), optionally times a
// constant and a sigmoid gate of its own (Qwen2-MoE, Yang et al. 2024).
#pragma once

#include <memory>

#include "gatewright/experts/feed_forward.h"

namespace gatewright {

struct SharedOptions {
  FeedForwardOptions ffn;  // its width is that of all shared experts together
  bool gate = false;
  double scale = 1;       // factor of their output
  bool own_gain = false;  // they read the hidden states times a gain of theirs, as after a norm of their own
};

class SharedExperts : public ExpertBank {
 public:
  SharedExperts(std::unique_ptr<ExpertBank> routed, const ExpertSizes& sizes, const SharedOptions& options,
                RandomStream& random);
  using ExpertBank::forward;
  Tensor forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext& context) override;
  /// ".shared_expert" and ".shared_expert_gate" as Qwen2-MoE has them, or ".shared_experts" as DeepSeek; the
  /// gain is their ".input_gain.weight".
  void collect(ParameterList& parameters, const std::string& prefix) const override;
  int64_t num_experts() const override { return routed_->num_experts(); }
  double flops_per_pair() const override { return routed_->flops_per_pair(); }
  double flops_per_token() const override { return routed_->flops_per_token() + ffn_flops(ffn_); }
  int64_t parameters_per_expert() const override { return routed_->parameters_per_expert(); }
  int64_t parameters_per_token() const override;

 private:
  std::unique_ptr<ExpertBank> routed_;
  FfnTensors ffn_;
  Tensor gate_;  // [1, H], or undefined
  Tensor gain_;  // [H], or undefined
  Activation activation_;
  bool recompute_;
  double scale_;
};

}  // namespace gatewright

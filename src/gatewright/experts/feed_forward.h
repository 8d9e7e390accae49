// Feed-forward experts with one hidden layer: SwiGLU (Shazeer 2020, "GLU variants improve Transformer", eq.
// 6; the experts of Mixtral, OLMoE, Qwen and DeepSeek), GELU and ReLU (Switch Transformer, Fedus et al.
// 2021).
#pragma once

#include "gatewright/base/random.h"
#include "gatewright/experts/expert_bank.h"
#include "gatewright/experts/ffn_function.h"

namespace gatewright {

struct FeedForwardOptions {
  Activation activation = Activation::swiglu;
  int64_t width = 0;  // F; 0: default_ffn_width
  bool biases = false;
  bool recompute = false;
  double init = 0.02;  // standard deviation of the initial weights
  double dropout = 0;  // in a bank: after the activation and after the sum, in training
};

/// 4 H without gate, 8 H / 3 rounded up to a multiple of 8 with it (SwiGLU).
int64_t default_ffn_width(int64_t hidden_size, Activation activation);

/// New leaf tensors: normal weights, zero biases; a stack of `experts`, or with experts = 0 one dense
/// feed-forward without the first axis.
FfnTensors make_ffn_parameters(int64_t experts, int64_t hidden_size, const FeedForwardOptions& options,
                               RandomStream& random);
/// Names as Hugging Face has them: prefix + ".gate_proj.weight" and so on. For a stack, prefix holds "{}".
void collect_ffn(const FfnTensors& ffn, ParameterList& parameters, const std::string& prefix);
/// Multiplications and additions of the products of one row of one expert.
double ffn_flops(const FfnTensors& ffn);
/// Parameters of one expert.
int64_t ffn_parameters(const FfnTensors& ffn);

class FeedForwardExperts : public ExpertBank {
 public:
  FeedForwardExperts(const ExpertSizes& sizes, const FeedForwardOptions& options, RandomStream& random);
  using ExpertBank::forward;
  Tensor forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;
  int64_t num_experts() const override { return ffn_.up.size(0); }
  double flops_per_pair() const override { return ffn_flops(ffn_); }
  int64_t parameters_per_expert() const override { return ffn_parameters(ffn_); }

 private:
  FfnTensors ffn_;
  Activation activation_;
  bool recompute_;
  double dropout_;
  int64_t layer_;
};

}  // namespace gatewright

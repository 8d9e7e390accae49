// LoRA experts on a frozen SwiGLU feed-forward (Li et al. 2024, "MixLoRA"; "Mixture of Routers" 2025, arXiv
// 2503.23362): each adapted map is W0 x + (lora_alpha / rank) sum over a token's experts of weight B_e A_e x,
// with one assignment for the maps of a block.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/registry.h"
#include "gatewright/experts/feed_forward.h"

namespace gatewright {

/// One adapted map's experts: A [E, r, d_in], B [E, d_out, r].
struct LoraWeights {
  Tensor a, b;
};

/// scale x sum over a token's experts of weight x B_e (A_e x): x [T, d_in] -> [T, d_out], zero for tokens
/// without an expert. All experts' products are taken in two matrix products of inner width E r, where
/// unchosen experts weigh 0.
Tensor lora_delta(const Tensor& x, const Assignment& assignment, const LoraWeights& weights, double scale);

struct AdapterOptions {
  int64_t rank = 8;
  double alpha = 16;      // the sum is multiplied by alpha / rank
  double dropout = 0.05;  // of the adapters' input, in training
};

/// The adapters of one frozen map, which need not exist.
class LoraMap {
 public:
  LoraMap() = default;  // none
  /// A is uniform in +- 1 / sqrt(d_in) (Kaiming's rule with a = sqrt 5), B zero: at first they add nothing.
  LoraMap(int64_t experts, int64_t d_in, int64_t d_out, const AdapterOptions& options, RandomStream& random);

  /// `product` [T, d_out] of x [T, d_in] with the frozen map, and what the tokens' experts add to it.
  Tensor adapted(const Tensor& product, const Tensor& x, const Assignment& assignment,
                 const ExpertContext& context) const;
  /// prefix + ".lora_A.weight" and ".lora_B.weight"; a "{}" in the prefix stands for the expert.
  void collect(ParameterList& parameters, const std::string& prefix) const;
  int64_t parameters_per_expert() const;

 private:
  LoraWeights weights_;
  double scale_ = 0, dropout_ = 0;
};

/// What `adapted` may name: maps of the feed-forward, projections of the attention.
inline constexpr const char* kLoraMaps[] = {"gate", "up", "down", "q", "k", "v", "o"};

struct LoraOptions {
  int64_t width = 0;  // of the frozen feed-forward; 0: default_ffn_width
  AdapterOptions adapters = {};
  std::vector<std::string> adapted = {"gate", "up", "down"};
  double init = 0.02;  // standard deviation of the frozen weights, until they are read from a model
};

/// Those of the bank `lora`, from its values.
AdapterOptions adapter_options(const Values& values);

class LoraExperts final : public ExpertBank {
 public:
  /// At first the bank is its frozen feed-forward. Names in `adapted` that are none of its maps are not its
  /// business: "q", "k", "v" and "o" are the attention's.
  LoraExperts(const ExpertSizes& sizes, const LoraOptions& options, RandomStream& random);
  using ExpertBank::forward;
  Tensor forward(const Tensor& hidden, const Assignment& assignment, const ExpertContext& context) override;
  /// The frozen maps as a dense layer has them, ".gate_proj.weight" and so on, and the adapters as
  /// ".moe_lora.experts.{}.gate_proj.lora_A.weight".
  void collect(ParameterList& parameters, const std::string& prefix) const override;
  int64_t num_experts() const override { return num_experts_; }
  double flops_per_pair() const override { return 2.0 * static_cast<double>(parameters_per_expert()); }
  double flops_per_token() const override { return ffn_flops(base_); }
  int64_t parameters_per_expert() const override;
  int64_t parameters_per_token() const override { return ffn_parameters(base_); }

 private:
  /// W0 x, and the adapters' part when this map is adapted.
  static Tensor adapted(const Tensor& x, const Tensor& base, const LoraMap& map, const Assignment& assignment,
                        const ExpertContext& context);

  int64_t num_experts_, layer_;
  FfnTensors base_;  // frozen
  LoraMap gate_, up_, down_;
};

}  // namespace gatewright

// Several routers that decide together ("Mixture of Routers" 2025, arXiv 2503.23362): sub-routers each give a
// distribution over experts, and a main router says, for each token, how much each of them counts.
#pragma once

#include "gatewright/routing/scorer.h"

namespace gatewright {

/// What the main router mixes: the sub-routers' distributions, or their logits.
enum class MixtureLevel { kProbabilities, kLogits };

/// ln a with a = softmax(main_logits) over sub-routers, [T, M]. With top_m > 0 only each token's top_m
/// largest count (ties to the lower id) and a sums to 1 over them; the others are -inf.
Tensor main_log_weights(const Tensor& main_logits, int64_t top_m);

/// Logits [T, E] whose softmax is the joint distribution:
///   probabilities  ln sum_m a_m softmax(s_m)        logits  sum_m a_m s_m
/// One sub-router: its own logits, whatever the main router says.
/// @param sub_logits        s, [T, M, E]
/// @param log_main_weights  ln a, [T, M]
Tensor mixture_logits(const Tensor& sub_logits, const Tensor& log_main_weights, MixtureLevel level);

/// M x sum_m f_m P_m over sub-routers as switch_loss has it over experts: f_m the share of tokens that count
/// m most (with top_m: of the tokens' choices), P_m the mean of a. top_m at balance, 1 without top_m.
Tensor main_router_loss(const Tensor& log_main_weights);

struct MixtureOptions {
  int64_t num_routers = 3;  // M
  MixtureLevel level = MixtureLevel::kProbabilities;
  int64_t top_m = 0;   // sub-routers that count for a token; 0: all
  double init = 0.02;  // standard deviation of the initial weights, a draw of its own for each sub-router
};

/// s_m = W_m h, main logits = V h. W [M, E, H], V [M, H].
class MixtureScorer final : public Scorer {
 public:
  MixtureScorer(const RouterSizes& sizes, const MixtureOptions& options, RandomStream& random);
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  /// ".sub_routers" and ".main_router".
  void collect(ParameterList& parameters, const std::string& prefix) const override;

  /// Where ln a of the layer is left in the state of the pass, for balance terms and reports.
  static constexpr const char* kMainLogWeights = "mixture.main_log_weights";

 private:
  MixtureOptions options_;
  Tensor sub_routers_, main_router_;
};

/// How much each sub-router counts: mean of a over tokens, [M].
Tensor sub_router_usage(const Tensor& log_main_weights);
/// Share of pairs of sub-routers, over tokens, whose most probable expert is the same; 1 for one sub-router.
double sub_router_agreement(const Tensor& sub_logits);

}  // namespace gatewright

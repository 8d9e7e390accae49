// Training a router whose choices are sparse and alike for neighbouring tokens (Song et al. 2025, "BlockFFN:
// Towards End-Side Acceleration-Friendly Mixture-of-Experts with Chunk-Level Activation Sparsity").
#pragma once

#include "gatewright/routing/balance.h"

namespace gatewright {

/// Whether tokens 1 .. T-1 follow the token before them in the same document: bool [T - 1].
/// first_key int [T]: index in its sequence of the first token of each token's document (undefined: each of
/// the `num_sequences` sequences is one document); real bool [T]: false for padding (undefined: none is).
Tensor follows_predecessor(int64_t num_tokens, int64_t num_sequences, const Tensor& first_key,
                           const Tensor& real, const at::Device& device);

/// Mean over neighbours and experts of the cross entropy between sigmoid(steepness x raw) of a token and of
/// its predecessor, the later token being the target; gradient flows into both. raw [T, E]; follows as above.
/// Scalar; 0 without neighbours.
Tensor activation_locality_loss(const Tensor& raw, const Tensor& follows, double steepness = 100);

/// 1 - mean over chunks of `chunk` tokens and experts of exp(sum over the chunk of ln(1 - p + 1e-5)): how
/// probable it is that an expert is used somewhere in a chunk. p [T, E]; real bool [T] or undefined. Fails
/// unless the chunk divides T.
Tensor chunk_sparsity_loss(const Tensor& p, int64_t chunk, const Tensor& real = {});

class ActivationLocality final : public BalanceTerm {
 public:
  explicit ActivationLocality(double steepness) : steepness_(steepness) {}
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;

 private:
  double steepness_;
};

struct AdaptiveOptions {
  int64_t stable = 1000;  // steps before the factor may change
  int64_t window = 100;   // steps whose mean losses are compared
  double min_factor = 1.025;
  double max_factor = 4.0;
};

/// A factor that follows a loss: when the mean over a window of steps has risen over the one before, it grows
/// by at least min_factor, when it has fallen, it shrinks as much; it moves linearly over the next window,
/// and never exceeds max_factor. It starts at 1.
class AdaptiveFactor {
 public:
  explicit AdaptiveFactor(const AdaptiveOptions& options);
  /// For the step that comes.
  double value() const;
  /// After each step, with its loss.
  void observe(double loss);
  /// float32 [6], not a copy: all there is to restore.
  const Tensor& state() const { return state_; }

 private:
  AdaptiveOptions options_;
  Tensor state_;  // see the enum in the source
};

/// The chunk-sparsity loss, whose weight an AdaptiveFactor moves. In evaluation the tokens after the last
/// whole chunk of each sequence are left out; in training there must be none.
class ChunkSparsity final : public BalanceTerm {
 public:
  ChunkSparsity(int64_t chunk, const AdaptiveOptions& options);
  Tensor loss(const Scores& scores, const Assignment& assignment, const RoutingContext& context) override;
  double factor() const override { return adaptive_.value(); }
  /// The mean loss of the step's micro-batches.
  std::optional<double> observation() const override;
  void observe(double mean_loss) override { adaptive_.observe(mean_loss); }
  void end_step() override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  int64_t chunk_;
  AdaptiveFactor adaptive_;
  double loss_sum_ = 0;  // of this step
  int64_t num_losses_ = 0;
};

}  // namespace gatewright

// Expert selection for whole patches of a sequence (Union of Experts 2025, arXiv 2503.02495): one choice for
// P tokens in a row, made by a linear map of all of them together.
#pragma once

#include "gatewright/routing/scorer.h"

namespace gatewright {

/// The patches of sequences, each flattened: x [B, S, d] -> [B, ceil(S / P), P d]. A last shorter patch is
/// filled up with zeros.
Tensor flat_patches(const Tensor& x, int64_t patch_length);

/// logits of every token = W vec(its patch) + b. W [E, P H] and b [E] begin uniform in +- 1 / sqrt(P H).
class PatchScorer final : public Scorer {
 public:
  PatchScorer(const RouterSizes& sizes, int64_t patch_length, RandomStream& random);
  /// Patches begin with the sequences. Fails for tokens that continue a sequence, whose patch is gone.
  Tensor logits(const Tensor& hidden, const RoutingContext& context) override;
  void collect(ParameterList& parameters, const std::string& prefix) const override;

 private:
  int64_t patch_length_;
  Tensor weight_, bias_;
};

}  // namespace gatewright

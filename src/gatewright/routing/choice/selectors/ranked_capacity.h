// The expert capacity of OpenMoE (Xue et al. 2024) and of GShard before it: first choices come before second
// ones.
#pragma once

#include <memory>
#include <vector>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// Pairs that an expert has room for: floor(factor x pairs / E), one more when that is odd, and at least
/// `minimum`.
int64_t ranked_capacity(double factor, int64_t pairs, int64_t num_experts, int64_t minimum);

struct RankedCapacityOptions {
  double factor = 1.25;            // in training
  double evaluation_factor = 2.0;  // elsewhere; 0: no limit
  int64_t minimum = 4;
  bool by_sequence = true;  // each sequence has room of its own; false: the batch as a whole, in order
};

/// A choice is kept when its rank at its expert is below the capacity. The rank of a token's j-th choice
/// counts the j-th choices of that expert by earlier tokens and all choices of it that are nearer to their
/// token's first, kept or not. Weights are normalised over what was chosen before the limit, and dropped
/// pairs are missing.
class RankedCapacity final : public Selector {
 public:
  RankedCapacity(std::unique_ptr<Selector> inner, const RankedCapacityOptions& options);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return inner_->reads(); }
  bool looks_at_one_row() const override { return false; }

 private:
  std::unique_ptr<Selector> inner_;
  RankedCapacityOptions options_;
};

/// The share of choices that a capacity limit dropped in each of `parts` equal parts of the sequences, by
/// position. NaN for a part without choices.
std::vector<double> dropped_by_position(const Selection& selection, int64_t num_sequences, int64_t parts);

}  // namespace gatewright::choice

// Experts by lot: THOR (Zuo et al. 2022, "Taming Sparsely Activated Transformer with Stochastic Experts",
// arXiv 2110.04260).
#pragma once

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

enum class DrawLevel {
  kToken,     // every token its own expert
  kSentence,  // all tokens of a sequence the same
  kBatch,     // all tokens of the batch the same
  kEnsemble,  // no draw: all experts
  kFixed      // no draw: always the same expert
};

/// In training one expert for the whole batch, drawn uniformly in every layer and pass; otherwise as
/// `inference` says. Scores count only where they mask an expert (-inf): then the draw is among the others.
class StochasticSelector final : public Selector {
 public:
  StochasticSelector(DrawLevel inference, int64_t fixed_expert);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return Reads::kLogits; }
  bool looks_at_one_row() const override { return false; }  // each place in the batch has its own draw
  void check_experts(int64_t num_experts) const override;

 private:
  DrawLevel inference_;
  int64_t fixed_expert_;
};

}  // namespace gatewright::choice

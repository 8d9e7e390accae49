// Data selection of Union of Experts (2025, arXiv 2503.02495): each expert takes the same number of tokens of
// a sequence, those that its gate scored highest.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// How the gate's scores of the chosen experts are normalised before tokens are compared.
enum class GateNormalisation {
  kExperts,  // over the token's chosen experts, times the capacity factor
  kBatch,    // over the sequences of the batch at the same position, times floor(capacity factor x sequences)
};
GateNormalisation parse_gate_normalisation(std::string_view name);  // "experts", "batch"

/// Added to the sums that scores are divided by.
inline constexpr float kGateAddend = 1e-8f;

/// The gate's scores [T, E]: 0 for experts that a token did not choose, the others normalised. The tokens are
/// those of `num_sequences` sequences of equal length, one after another.
std::vector<float> gate_scores(const ScoreRows& probabilities, const Rows& chosen,
                               GateNormalisation normalisation, double capacity_factor,
                               int64_t num_sequences);

/// The most tokens of a sequence that chose one expert.
int64_t largest_count(const Rows& chosen, int64_t num_sequences, int64_t num_experts);

/// Each expert's `capacity` tokens of every sequence, the highest of `scores` [T, E], ties to the earlier
/// token; as rows over tokens. Tokens for which `allowed` is -inf are not taken.
Rows select_tokens(const ScoreRows& scores, const ScoreRows& allowed, int64_t num_sequences,
                   int64_t capacity);

struct DataSelectionOptions {
  GateNormalisation normalisation = GateNormalisation::kExperts;
  double capacity_factor = 1;
  double share = 0;  // each expert takes floor(share x length) tokens of a sequence; 0: largest_count
};

/// Around the choice of each token (token choice): every expert serves exactly its capacity of tokens in each
/// sequence. Columns with fewer choosers are filled up with tokens that did not choose the expert, so that a
/// token may visit more or fewer experts than it chose.
class DataSelection final : public Selector {
 public:
  DataSelection(std::unique_ptr<Selector> inner, const DataSelectionOptions& options);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return inner_->reads(); }
  bool looks_at_one_row() const override { return false; }
  void check_experts(int64_t num_experts) const override { inner_->check_experts(num_experts); }
  void check_steps(int64_t num_steps) const override { inner_->check_steps(num_steps); }

 private:
  int64_t capacity(const Rows& chosen, const ScoreRows& scores, int64_t num_sequences) const;

  std::unique_ptr<Selector> inner_;
  DataSelectionOptions options_;
};

}  // namespace gatewright::choice

// The discrete choice, on plain rows: which experts a token visits, given its scores. Used by the trainer,
// which then gathers differentiable weights, and by inference, which never touches autograd.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/routing/choice/pairs.h"

namespace gatewright::choice {

/// The score of an expert that is never chosen.
inline constexpr float kMasked = -std::numeric_limits<float>::infinity();

/// Scores of T tokens for E experts, row by row. A score of -inf is never chosen; NaN and +inf are errors.
struct ScoreRows {
  std::span<const float> values;  // [T, E]
  int64_t num_tokens = 0;
  int64_t num_experts = 0;

  std::span<const float> row(int64_t token) const {
    return values.subspan(static_cast<size_t>(token * num_experts), static_cast<size_t>(num_experts));
  }
};

/// What a choice may depend on besides the scores.
struct ChoiceContext {
  int64_t layer = 0;               // named in errors
  RandomStream* random = nullptr;  // for selectors that draw; one draw a call whatever the number of tokens
  bool training = false;
  int64_t step = 0;           // optimiser steps done, for selectors that change in training
  int64_t num_steps = 0;      // of the whole training
  int64_t num_sequences = 1;  // tokens come as this many sequences of equal length, one after another
  std::span<const float> distribution = {};  // [T, E], sums to 1; for selectors that want it
  std::span<const uint8_t> real = {};        // [T] 0: padding; empty: no token is
};

/// Which values of a token a selector compares.
enum class Reads { kProbabilities, kLogits };

struct Selection {
  Rows rows;
  /// What was chosen before a capacity limit or a broadcast, where one changed it: weights are normalised
  /// over it, and balance terms read it.
  std::optional<Rows> before_capacity = {};
  /// Tokens, ascending, whose weights are their distribution over the experts, whatever the weight rule says.
  std::vector<int64_t> broadcast = {};
};

class Selector {
 public:
  virtual ~Selector() = default;
  /// Chosen experts ascend within a token. Ties break to the lower expert id.
  virtual Selection choose(const ScoreRows& scores, const ChoiceContext& context) const = 0;
  virtual Reads reads() const { return Reads::kProbabilities; }
  /// Whether ChoiceContext::distribution is needed in training.
  virtual bool wants_distribution() const { return false; }
  /// Whether a token's choice depends on its own row only, and so is the same in any batch.
  virtual bool looks_at_one_row() const { return true; }
  /// Fails when no choice among so many experts is possible with these parameters.
  virtual void check_experts(int64_t /*num_experts*/) const {}
  /// Fails when a training of so many steps is not possible with these parameters.
  virtual void check_steps(int64_t /*num_steps*/) const {}
};

/// A selector that decides each token by its row alone.
class RowSelector : public Selector {
 public:
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const final;
  /// Appends the chosen experts of one row, in any order.
  virtual void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const = 0;
  /// Appends the chosen experts of each row, ascending, and stores how many each has: choose_row for each,
  /// unless a selector has a faster way for many rows. On the calling thread.
  virtual void choose_rows(const ScoreRows& rows, std::vector<int32_t>& chosen,
                           std::span<int64_t> counts) const;
};

/// Expert ids by falling score, ties to the lower id, without those of score -inf; at most `limit`.
std::vector<int32_t> best_experts(std::span<const float> scores, int64_t limit);

/// Appends the ids of the `k` best, ascending: the same set as best_experts, without an order of all.
void append_best(std::span<const float> scores, int64_t k, std::vector<int32_t>& chosen);

/// The same when the k-th highest score is known (-inf: there are fewer).
void append_at_least(std::span<const float> scores, float least, int64_t k, std::vector<int32_t>& chosen);

/// ceil(factor x total / parts), but not one more where only the rounding of the product says so: 1.1 x 100 /
/// 10 is 11.
int64_t ceil_share(double factor, int64_t total, int64_t parts);

/// For each token the distance of its choice to a different one: the smallest chosen score minus the largest
/// that was not chosen (-inf scores aside); NaN when nothing or everything was chosen. Negative after a
/// forced choice.
std::vector<float> margins(const ScoreRows& scores, const Rows& rows);

/// Fails naming the layer unless the scores are a table [T, E] with E > 0, and naming layer and token when
/// one is NaN or +inf.
void check_scores(const ScoreRows& scores, int64_t layer);

}  // namespace gatewright::choice

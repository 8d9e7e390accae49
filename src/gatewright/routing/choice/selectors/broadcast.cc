#include "gatewright/routing/choice/selectors/broadcast.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

constexpr double kAddend = 1e-5;

void append_allowed(std::span<const float> scores, std::vector<int32_t>& experts) {
  for (size_t e = 0; e < scores.size(); ++e) {
    if (scores[e] != -std::numeric_limits<float>::infinity()) experts.push_back(static_cast<int32_t>(e));
  }
}

/// `rows` with every expert for the tokens of `broadcast`, which ascend.
Rows with_broadcast(const Rows& rows, const std::vector<int64_t>& broadcast, const ScoreRows& scores) {
  Rows result;
  auto next = broadcast.begin();
  for (int64_t t = 0; t < rows.num_tokens(); ++t) {
    if (next != broadcast.end() && *next == t) {
      append_allowed(scores.row(t), result.expert);
      ++next;
    } else {
      const auto row = rows.row(t);
      result.expert.insert(result.expert.end(), row.begin(), row.end());
    }
    result.row_begin.push_back(static_cast<int64_t>(result.expert.size()));
  }
  return result;
}

}  // namespace

double uncertainty(std::span<const float> distribution) {
  double sum = 0;
  for (const float p : distribution) sum -= double{p} * std::log(double{p} + kAddend);
  return sum;
}

double largest_uncertainty(int64_t num_experts) {
  return -std::log(1.0 / static_cast<double>(num_experts) + kAddend);
}

Broadcast::Broadcast(std::unique_ptr<Selector> inner, double threshold, int64_t slots)
    : inner_(std::move(inner)), threshold_(threshold), slots_(slots) {
  require(std::isfinite(threshold), "[broadcast] threshold must be finite, got {}", threshold);
  require(slots >= 0, "[broadcast] slots must not be negative, got {}", slots);
}

std::vector<int64_t> Broadcast::broadcast_tokens(const ScoreRows& scores,
                                                 const ChoiceContext& context) const {
  const int64_t length = scores.num_tokens / context.num_sequences;
  const ScoreRows distribution{
      .values = context.distribution, .num_tokens = scores.num_tokens, .num_experts = scores.num_experts};
  std::vector<int64_t> tokens;
  int64_t used = 0;
  for (int64_t t = 0; t < scores.num_tokens; ++t) {
    if (t % length == 0) used = 0;
    const bool real = context.real.empty() || context.real[static_cast<size_t>(t)] != 0;
    if (!real || used == slots_ || uncertainty(distribution.row(t)) < threshold_) continue;
    tokens.push_back(t);
    ++used;
  }
  return tokens;
}

Selection Broadcast::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  Selection chosen = inner_->choose(scores, context);
  if (!context.training || scores.num_tokens == 0) return chosen;
  require(context.distribution.size() == scores.values.size(),
          "layer {}: the decorator broadcast needs each token's distribution over experts in training",
          context.layer);
  require(context.num_sequences > 0 && scores.num_tokens % context.num_sequences == 0,
          "layer {}: {} tokens are not {} sequences of equal length", context.layer, scores.num_tokens,
          context.num_sequences);
  chosen.broadcast = broadcast_tokens(scores, context);
  if (chosen.broadcast.empty()) return chosen;
  Rows ordinary = std::move(chosen.rows);
  chosen.rows = with_broadcast(ordinary, chosen.broadcast, scores);
  if (!chosen.before_capacity) chosen.before_capacity = std::move(ordinary);
  return chosen;
}

}  // namespace gatewright::choice

#include "gatewright/routing/choice/selectors/data_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

int64_t length_of(int64_t num_tokens, int64_t num_sequences) {
  require(num_sequences >= 1 && num_tokens % num_sequences == 0,
          "[data_selection] {} tokens are not {} sequences of equal length", num_tokens, num_sequences);
  return num_tokens / num_sequences;
}

void normalise_rows(std::vector<float>& scores, int64_t num_experts, double factor) {
  const auto width = static_cast<size_t>(num_experts);
  for (size_t begin = 0; begin < scores.size(); begin += width) {
    const std::span<float> row = std::span(scores).subspan(begin, width);
    const float sum = std::accumulate(row.begin(), row.end(), kGateAddend);
    for (float& x : row) x = static_cast<float>(x / sum * factor);
  }
}

/// Sequences are `cells` values each.
void normalise_over_batch(std::vector<float>& scores, size_t cells, double factor) {
  for (size_t i = 0; i < cells; ++i) {
    float sum = kGateAddend;
    for (size_t at = i; at < scores.size(); at += cells) sum += scores[at];
    for (size_t at = i; at < scores.size(); at += cells)
      scores[at] = static_cast<float>(scores[at] / sum * factor);
  }
}

}  // namespace

GateNormalisation parse_gate_normalisation(std::string_view name) {
  if (name == "experts") return GateNormalisation::kExperts;
  if (name != "batch") fail_usage("a gate is normalised over experts or batch, got '{}'", name);
  return GateNormalisation::kBatch;
}

std::vector<float> gate_scores(const ScoreRows& probabilities, const Rows& chosen,
                               GateNormalisation normalisation, double capacity_factor,
                               int64_t num_sequences) {
  const int64_t length = length_of(probabilities.num_tokens, num_sequences);
  std::vector<float> scores(probabilities.values.size(), 0.0f);
  for (int64_t t = 0; t < chosen.num_tokens(); ++t) {
    for (const int32_t e : chosen.row(t)) {
      const auto cell = static_cast<size_t>(t * probabilities.num_experts + e);
      scores[cell] = probabilities.values[cell];
    }
  }
  if (normalisation == GateNormalisation::kExperts)
    normalise_rows(scores, probabilities.num_experts, capacity_factor);
  else
    normalise_over_batch(scores, static_cast<size_t>(length * probabilities.num_experts),
                         std::floor(capacity_factor * static_cast<double>(num_sequences)));
  return scores;
}

int64_t largest_count(const Rows& chosen, int64_t num_sequences, int64_t num_experts) {
  const int64_t length = length_of(chosen.num_tokens(), num_sequences);
  int64_t largest = 0;
  for (int64_t b = 0; b < num_sequences; ++b) {
    std::vector<int64_t> counts(static_cast<size_t>(num_experts));
    for (int64_t t = b * length; t < (b + 1) * length; ++t) {
      for (const int32_t e : chosen.row(t)) largest = std::max(largest, ++counts[static_cast<size_t>(e)]);
    }
  }
  return largest;
}

Rows select_tokens(const ScoreRows& scores, const ScoreRows& allowed, int64_t num_sequences,
                   int64_t capacity) {
  const int64_t length = length_of(scores.num_tokens, num_sequences);
  std::vector<std::vector<int32_t>> experts(static_cast<size_t>(scores.num_tokens));
  std::vector<int64_t> tokens;
  for (int64_t b = 0; b < num_sequences; ++b) {
    for (int64_t e = 0; e < scores.num_experts; ++e) {
      const auto column = [e](const ScoreRows& table, int64_t t) {
        return table.row(t)[static_cast<size_t>(e)];
      };
      tokens.clear();
      for (int64_t t = b * length; t < (b + 1) * length; ++t) {
        if (column(allowed, t) != -std::numeric_limits<float>::infinity()) tokens.push_back(t);
      }
      std::ranges::stable_sort(tokens, std::greater{}, [&](int64_t t) { return column(scores, t); });
      tokens.resize(std::min(tokens.size(), static_cast<size_t>(capacity)));
      for (const int64_t t : tokens) experts[static_cast<size_t>(t)].push_back(static_cast<int32_t>(e));
    }
  }
  Rows rows;
  for (const std::vector<int32_t>& row : experts) {
    rows.expert.insert(rows.expert.end(), row.begin(), row.end());
    rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
  }
  return rows;
}

DataSelection::DataSelection(std::unique_ptr<Selector> inner, const DataSelectionOptions& options)
    : inner_(std::move(inner)), options_(options) {
  require(options.share >= 0 && options.share <= 1, "[data_selection] share must be in [0, 1], got {}",
          options.share);
  require(options.capacity_factor > 0, "[data_selection] capacity_factor must be more than 0, got {}",
          options.capacity_factor);
}

int64_t DataSelection::capacity(const Rows& chosen, const ScoreRows& scores, int64_t num_sequences) const {
  if (options_.share == 0) return largest_count(chosen, num_sequences, scores.num_experts);
  const int64_t length = length_of(scores.num_tokens, num_sequences);
  const auto tokens = static_cast<int64_t>(std::floor(options_.share * static_cast<double>(length)));
  require(
      tokens >= 1,
      "[data_selection] each expert would take floor({:g} x {}) = 0 tokens of a sequence; a larger share or "
      "longer sequences are needed",
      options_.share, length);
  return tokens;
}

Selection DataSelection::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  Selection chosen = inner_->choose(scores, context);
  if (scores.num_tokens == 0) return chosen;
  const std::vector<float> kept = gate_scores(scores, chosen.rows, options_.normalisation,
                                              options_.capacity_factor, context.num_sequences);
  const ScoreRows columns{.values = kept, .num_tokens = scores.num_tokens, .num_experts = scores.num_experts};
  Rows rows = select_tokens(columns, scores, context.num_sequences,
                            capacity(chosen.rows, scores, context.num_sequences));
  if (!chosen.before_capacity) chosen.before_capacity = std::move(chosen.rows);
  chosen.rows = std::move(rows);
  return chosen;
}

}  // namespace gatewright::choice

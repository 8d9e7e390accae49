#include "gatewright/routing/choice/top_p_calibration.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "gatewright/base/error.h"

namespace gatewright::choice {

double top_p_for(const ScoreRows& probabilities, double mean_experts) {
  const int64_t tokens = probabilities.num_tokens, experts = probabilities.num_experts;
  require(tokens > 0, "p can't be calibrated without tokens");
  require(mean_experts >= 1 && mean_experts <= static_cast<double>(experts),
          "a token visits 1 to {} of {} experts by top-p, never {}", experts, experts, mean_experts);
  check_scores(probabilities, 0);
  std::vector<double> sums;
  sums.reserve(static_cast<size_t>(tokens * (experts - 1)));
  std::vector<float> row;
  for (int64_t t = 0; t < tokens; ++t) {
    const auto values = probabilities.row(t);
    row.assign(values.begin(), values.end());
    std::ranges::sort(row, std::greater());
    double sum = 0;
    for (int64_t e = 0; e + 1 < experts; ++e) sums.push_back(sum += row[static_cast<size_t>(e)]);
  }
  // Halfway between the last sum that is to lie at or below p and the next, so that rounding decides nothing.
  std::ranges::sort(sums);
  const auto below = static_cast<size_t>(std::llround((mean_experts - 1) * static_cast<double>(tokens)));
  const double least = below > 0 ? sums[below - 1] : 0.0;
  const double next = below < sums.size() ? sums[below] : 1.0;
  return std::clamp((least + next) / 2, 0.0, 1.0);
}

}  // namespace gatewright::choice

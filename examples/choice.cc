// The discrete choice on plain values: no LibTorch, for engines of your own.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/choice/weights.h"

using namespace gatewright;

int main() {
  const std::vector<float> probabilities = {0.50f, 0.25f, 0.15f, 0.10f,   // two tokens,
                                            0.05f, 0.80f, 0.05f, 0.10f};  // four experts
  const choice::ScoreRows scores{.values = probabilities, .num_tokens = 2, .num_experts = 4};
  const choice::TopP selector(/*p=*/0.6, /*min_experts=*/1, /*max_experts=*/0);
  const choice::Selection selection = selector.choose(scores, {});
  const std::vector<float> weights =
      choice::weights({.weighting = choice::Weighting::kRenormalised}, scores, selection);
  fmt::print("token 0 visits {}, token 1 visits {}\n", selection.rows.row(0), selection.rows.row(1));
  fmt::print("weights {:.3f}\n", fmt::join(weights, ", "));
}

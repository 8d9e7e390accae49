#include "examples/extending/top_n_sigma.h"

#include "tests/routing/choice/selector_properties.h"

namespace gatewright::choice {

TEST(TopNSigma, TakesWhatLiesNearTheBest) {
  const Table logits = table({4, 0, 0, 0, 3, 1, 3, 1}, 4);  // standard deviations sqrt(3) and 1
  EXPECT_EQ(lists(choose(TopNSigma(1), logits).rows), (std::vector<std::vector<int32_t>>{{0}, {0, 2}}));
  EXPECT_EQ(lists(choose(TopNSigma(2), logits).rows), (std::vector<std::vector<int32_t>>{{0}, {0, 1, 2, 3}}));
}

TEST(TopNSigma, KeepsTheRulesOfEverySelector) { expect_selector_properties(top_n_sigma()); }

TEST(TopNSigma, RefusesANegativeN) {
  EXPECT_EQ(error_of([] { TopNSigma(-1); }), "[top_n_sigma] n must be at least 0, got -1");
}

}  // namespace gatewright::choice

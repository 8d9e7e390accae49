// When the experiment of Chain-of-Experts counts as reproduced.
#include <gmock/gmock.h>

#include "experiments/list.h"
#include "tests/experiments/judged.h"

namespace gatewright::experiments {
namespace {

using testing::ElementsAre;

std::vector<Given> chain_of_experts_example() {
  return {{"two rounds of 2", "relative error", {0.072, 0.051, 0.118}},
          {"one round of 4", "relative error", {0.272, 0.173, 0.256}},
          {"one round of 6", "relative error", {0.272, 0.174, 0.258}},
          {"one gate", "relative error", {0.310, 0.241, 0.295}},
          {"outer residual", "relative error", {0.263, 0.218, 0.214}}};
}

TEST(ChainOfExpertsExperiment, AcceptsRoundsThatHelp) {
  const auto findings = chain_of_experts().judge(results_of(chain_of_experts_example()));
  EXPECT_EQ(verdict_of(findings), "reproduced");
  EXPECT_EQ(findings[0].measured, "0.46 times in the worst seed");
  EXPECT_EQ(findings[3].measured, "1.8 times in the worst seed");
}

TEST(ChainOfExpertsExperiment, ComparesLanguageModelsThatWereTrained) {
  constexpr const char* kLoss = "language model: validation loss";
  auto given = chain_of_experts_example();
  given.push_back({"two rounds of 2", kLoss, {2.50, 2.51, 2.52}});
  given.push_back({"one round of 4", kLoss, {2.53, 2.54, 2.55}});
  auto findings = chain_of_experts().judge(results_of(given));
  ASSERT_EQ(findings.size(), 5u);
  EXPECT_EQ(findings[4].measured, "-0.0300");
  EXPECT_EQ(verdict_of(findings), "reproduced");
  given.back().values = {2.51, 2.52, 2.53};
  EXPECT_EQ(verdict_of(chain_of_experts().judge(results_of(given))), "direction");
  given.back().values = {2.50, 2.51, 2.50};
  EXPECT_EQ(verdict_of(chain_of_experts().judge(results_of(given))), "not reproduced");
}

TEST(ChainOfExpertsExperiment, DemandsThemInEverySeed) {
  auto given = chain_of_experts_example();
  given[0].values[2] = 0.18;  // 0.70 times one round of 4, and the ablations hardly worse
  const auto findings = chain_of_experts().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(false, true, false, false));
  EXPECT_EQ(verdict_of(findings), "direction");
}

}  // namespace
}  // namespace gatewright::experiments

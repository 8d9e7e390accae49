// When the experiment of SMoE-Dropout counts as reproduced.
#include <gmock/gmock.h>

#include "experiments/list.h"
#include "tests/experiments/judged.h"

namespace gatewright::experiments {
namespace {

using testing::ElementsAre;

std::vector<Given> smoe_dropout_example() {
  return {
      {"dense", "validation loss", {2.97, 2.99}},         {"SMoE-Dropout", "loss with 1 of 8", {3.94, 3.89}},
      {"SMoE-Dropout", "loss with 2 of 8", {3.47, 3.47}}, {"SMoE-Dropout", "loss with 4 of 8", {3.12, 3.10}},
      {"SMoE-Dropout", "loss with 8 of 8", {3.01, 2.98}}, {"learned top-2", "loss with 2 of 8", {3.01, 2.99}},
      {"learned top-2", "loss with 8 of 8", {3.21, 3.17}}};
}

TEST(SmoeDropoutExperiment, AcceptsWhatTheMethodPromises) {
  const auto findings = smoe_dropout().judge(results_of(smoe_dropout_example()));
  EXPECT_EQ(verdict_of(findings), "reproduced");
  EXPECT_EQ(findings[0].measured, "3.92, 3.47, 3.11, 3.00");
}

TEST(SmoeDropoutExperiment, DemandsThatEveryDoublingHelps) {
  auto given = smoe_dropout_example();
  given[3].values = {3.60, 3.60};  // worse with four experts than with two
  const auto findings = smoe_dropout().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(false, true, true));
  EXPECT_EQ(verdict_of(findings), "direction");
}

TEST(SmoeDropoutExperiment, RefusesALearnedRouterThatScales) {
  auto given = smoe_dropout_example();
  given[6].values = {2.95, 2.95};
  const auto findings = smoe_dropout().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(true, false, false));
  EXPECT_EQ(verdict_of(findings), "not reproduced");
}

}  // namespace
}  // namespace gatewright::experiments

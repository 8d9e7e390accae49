// When the experiment of OpenMoE counts as reproduced.
#include <gmock/gmock.h>

#include "experiments/list.h"
#include "tests/experiments/judged.h"

namespace gatewright::experiments {
namespace {

using testing::ElementsAre;

std::vector<Given> openmoe_example() {
  return {{"OpenMoE", "validation loss", {1.8079, 1.81}},
          {"OpenMoE", "loss without a limit", {1.8059, 1.81}},
          {"OpenMoE", "specialisation by token", {0.33, 0.32}},
          {"OpenMoE", "specialisation by position", {0.06, 0.08}},
          {"OpenMoE", "share of a token's leading expert", {0.97, 0.95}},
          {"OpenMoE", "overlap of 2 % with the end", {0.52, 0.60}},
          {"OpenMoE", "overlap of 20 % with the end", {0.83, 0.88}},
          {"OpenMoE", "overlap of 50 % with the end", {0.92, 0.96}},
          {"OpenMoE", "dropped, first language, last quarter", {0.08, 0.08}},
          {"OpenMoE", "dropped, second language, first quarter", {0.07, 0}},
          {"OpenMoE", "dropped, second language, last quarter", {0.35, 0.29}},
          {"OpenMoE", "the same with factor 2", {0.2, 0.15}},
          {"OpenMoE", "the same without a limit", {0, 0}}};
}

TEST(OpenMoeExperiment, AcceptsThePaperFindings) {
  const auto findings = openmoe().judge(results_of(openmoe_example()));
  EXPECT_EQ(verdict_of(findings), "reproduced");
  EXPECT_EQ(findings[0].measured, "4.0 times, 95 % in the worst seed");
  EXPECT_EQ(findings[1].measured, "0.83, 0.92, 0.60 in the worst seed");
}

TEST(OpenMoeExperiment, DemandsThemInEverySeed) {
  auto given = openmoe_example();
  given[6].values = {0.99, 0.79};   // one seed is settled late
  given[10].values = {0.35, 0.12};  // and drops little at the end
  const auto findings = openmoe().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(true, false, false, false));
}

TEST(OpenMoeExperiment, SeesThatNothingIsDropped) {
  auto given = openmoe_example();
  for (size_t i = 8; i < given.size(); ++i) given[i].values = {0, 0};
  const auto findings = openmoe().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(true, true, false, true));
  EXPECT_EQ(verdict_of(findings), "not reproduced");
}

}  // namespace
}  // namespace gatewright::experiments

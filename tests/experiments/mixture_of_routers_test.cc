// When the experiment of Mixture of Routers counts as reproduced.
#include <gmock/gmock.h>

#include "experiments/list.h"
#include "tests/experiments/judged.h"

namespace gatewright::experiments {
namespace {

using testing::ElementsAre;

std::vector<Given> mixture_of_routers_example() {
  return {{"LoRA", "validation loss", {3.69, 3.67, 3.67}},
          {"one router", "validation loss", {3.4831, 3.4449, 3.4680}},
          {"MoR", "validation loss", {3.4836, 3.4478, 3.4548}},
          {"one router", "rise with a wrong router", {1.30, 1.42, 1.35}},
          {"MoR", "rise with a wrong router", {0.20, 0.42, 0.30}}};
}

TEST(MixtureOfRoutersExperiment, AcceptsParityAndTolerance) {
  const auto findings = mixture_of_routers().judge(results_of(mixture_of_routers_example()));
  EXPECT_EQ(verdict_of(findings), "reproduced");
  EXPECT_EQ(findings[1].measured, "-0.0033");
  EXPECT_EQ(findings[2].measured, "0.30 times as much in the worst seed");
}

TEST(MixtureOfRoutersExperiment, DemandsToleranceInEverySeed) {
  auto given = mixture_of_routers_example();
  given[4].values[1] = 0.8;
  const auto findings = mixture_of_routers().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(true, true, false));
  EXPECT_EQ(verdict_of(findings), "direction");
}

TEST(MixtureOfRoutersExperiment, RefusesThreeRoutersThatAreWorse) {
  auto given = mixture_of_routers_example();
  given[2].values = {3.5, 3.5, 3.5};
  const auto findings = mixture_of_routers().judge(results_of(given));
  EXPECT_THAT(met(findings), ElementsAre(true, false, true));
  EXPECT_EQ(verdict_of(findings), "not reproduced");
}

}  // namespace
}  // namespace gatewright::experiments

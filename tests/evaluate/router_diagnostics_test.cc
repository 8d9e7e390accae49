#include "gatewright/evaluate/router_diagnostics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing.h"

namespace gatewright {
namespace {

Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

TEST(ChoiceInformation, IsTheEntropyOfEqualChoicesAndZeroOfIndependentOnes) {
  EXPECT_NEAR(choice_information(ids({0, 1, 2, 3}), ids({3, 2, 1, 0}), 4), std::log(4.0), 1e-12);
  EXPECT_NEAR(choice_information(ids({0, 0, 1, 1}), ids({0, 1, 0, 1}), 2), 0, 1e-12);
  EXPECT_EQ(error_of([] {
              choice_information(ids({0, 4}), ids({0, 1}), 4);
            }),
            "token 1 has the experts 4 and 1; the experts are 0 to 3");
}

TEST(LayerInformation, ComparesTheMostProbableExperts) {
  RoutingRecord first, second;
  first.scores.probabilities = at::eye(3);
  second.scores.probabilities = at::eye(3).flip(0);
  EXPECT_NEAR(layer_information(first, second), std::log(3.0), 1e-12);
  first.scores.probabilities = at::full({5, 4}, 0.25);
  EXPECT_NEAR(gate_entropy(first), std::log(4.0), 1e-6);
}

TEST(ExpertSimilarity, IsTheMeanCosineOfPairs) {
  const Tensor weights = at::tensor({1.0f, 0.0f, 0.0f, 2.0f, 3.0f, 0.0f}).view({3, 2});
  EXPECT_NEAR(expert_similarity(weights), 1.0 / 3, 1e-6) << "cosines 0, 1 and 0";
  EXPECT_EQ(error_of([] {
              expert_similarity(at::ones({1, 2}));
            }),
            "the similarity of experts needs the weights of at least two, [E, ...]");
}

}  // namespace
}  // namespace gatewright

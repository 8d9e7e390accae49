#include "gatewright/train/objective.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

std::unique_ptr<Objective> objective_of(const std::string& name, const std::map<std::string, Value>& given) {
  const auto& entry = objectives().at(name);
  return entry.make(Values(entry.spec.parameters, given, name));
}

struct Text {
  RandomStream random{1, "objective"};
  Tensor hidden = normals({6, 4}, random), head = normals({9, 4}, random);
  Tensor targets = at::tensor({3, 0, -1, 8, 8, -1}, at::kLong);
  Tensor log_p() const { return at::matmul(hidden, head.t()).log_softmax(-1); }
  Tensor log_z() const { return at::matmul(hidden, head.t()).logsumexp(-1); }
};

TEST(NextToken, AddsTheSquareOfTheLogPartitionAndSpreadsLabels) {
  const Text t;
  const Tensor log_p = t.log_p(), log_z = t.log_z();
  double plain = 0, smoothed = 0, z = 0;
  for (const int64_t i : {0, 1, 3, 4}) {
    const double own = log_p[i][t.targets[i].item<int64_t>()].item<double>();
    plain -= own / 4;
    smoothed -= (0.8 * own + 0.2 / 8 * (log_p[i].sum().item<double>() - own)) / 4;
    z += std::pow(log_z[i].item<double>(), 2) / 4;
  }
  const auto fused = objective_of("next_token", {})->value({t.hidden}, t.head, t.targets);
  EXPECT_NEAR(fused.loss.item<double>(), plain, 1e-5);
  const auto both = objective_of("next_token", {{"label_smoothing", 0.2}, {"z_loss", 0.01}})
                        ->value({t.hidden}, t.head, t.targets);
  EXPECT_NEAR(both.cross_entropy.item<double>(), plain, 1e-5);
  EXPECT_NEAR(both.loss.item<double>(), smoothed + 0.01 * z, 1e-5);
}

TEST(NextToken, HasNoLossWithoutTargets) {
  const Text t;
  const auto value =
      objective_of("next_token", {{"z_loss", 1.0}})->value({t.hidden}, t.head, at::full({6}, -1, at::kLong));
  EXPECT_EQ(value.loss.item<double>(), 0);
}

}  // namespace
}  // namespace gatewright

#include "gatewright/layers/consistency.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

TEST(SymmetricKl, IsComputedByHand) {
  const Tensor p = tensor({0.5f, 0.5f}, {1, 2}).log(), q = tensor({0.25f, 0.75f}, {1, 2}).log();
  EXPECT_NEAR(symmetric_kl(p, q, ids({0})).item<double>(), 0.1373265, 1e-6) << "ln 3 / 8";
  // A position that agrees and a padded one add nothing.
  const Tensor first = at::cat({p, q, p}), second = at::cat({q, q, q});
  EXPECT_NEAR(symmetric_kl(first, second, ids({0, 1, -1})).item<double>(), 0.1373265, 1e-6);
}

TEST(SymmetricKl, IsPositiveUnlessBothAgree) {
  RandomStream random(1, "logits");
  const Tensor targets = ids({0, 1, 2, 3, 4, 5});
  for (int i = 0; i < 20; ++i) {
    const Tensor a = normals({6, 7}, random), b = normals({6, 7}, random);
    EXPECT_GT(symmetric_kl(a, b, targets).item<double>(), 0);
    EXPECT_EQ(symmetric_kl(a, a, targets).item<double>(), 0);
    EXPECT_NEAR(symmetric_kl(a, b, targets).item<double>(), symmetric_kl(b, a, targets).item<double>(), 1e-5);
  }
}

TEST(SymmetricKl, SendsItsGradientToBothSides) {
  RandomStream random(2, "logits");
  const Tensor a = normals({4, 5}, random).to(at::kDouble), b = normals({4, 5}, random).to(at::kDouble);
  const Tensor targets = ids({0, -1, 2, 3});
  const auto left = [&](const Tensor& x) { return symmetric_kl(x, b, targets); };
  const auto right = [&](const Tensor& x) { return symmetric_kl(a, x, targets); };
  EXPECT_LT(difference(gradient(a, left), slopes(a, left)), 1e-7);
  EXPECT_LT(difference(gradient(b, right), slopes(b, right)), 1e-7);
  EXPECT_GT(gradient(b, right)[0].abs().sum().item<double>(), 1e-3);
}

TEST(LabelSmoothing, SpreadsAShareOfTheTarget) {
  const Tensor logits = tensor({0.7f, 0.2f, 0.1f}, {1, 3}).log();
  const double a = -std::log(0.7), b = -std::log(0.2), c = -std::log(0.1);
  // s = 0.1: the target keeps 0.9 and each of the two others gets 0.05.
  EXPECT_NEAR(label_smoothed_cross_entropy(logits, ids({0}), 0.1).item<double>(), 0.9 * a + 0.05 * (b + c),
              1e-6);
  EXPECT_NEAR(label_smoothed_cross_entropy(logits, ids({1}), 0).item<double>(), b, 1e-6);
  EXPECT_EQ(label_smoothed_cross_entropy(logits, ids({-1}), 0.1).item<double>(), 0);
}

TEST(ConsistencyLoss, OfEqualPassesWithoutAlphaIsTwiceTheCrossEntropy) {
  RandomStream random(3, "logits");
  const Tensor logits = normals({6, 7}, random), targets = ids({0, 1, 2, 3, -1, 5});
  const double one = label_smoothed_cross_entropy(logits, targets, 0.1).item<double>();
  EXPECT_NEAR(consistency_loss(logits, logits, targets, 0, 0.1).item<double>(), 2 * one, 1e-5);
  const Tensor other = normals({6, 7}, random);
  const double expected = one + label_smoothed_cross_entropy(other, targets, 0.1).item<double>() +
                          5 * symmetric_kl(logits, other, targets).item<double>();
  EXPECT_NEAR(consistency_loss(logits, other, targets, 5, 0.1).item<double>(), expected, 1e-4);
  EXPECT_EQ(error_of([&] { consistency_loss(logits, logits, targets, -1, 0); }),
            "[consistency] alpha must be at least 0, got -1");
}

TEST(ConsistencyLoss, ComputesInFloat32WhateverTheLogitsAre) {
  const Tensor half = tensor({8, 0, -8, 8}, {2, 2}).to(at::kHalf);
  EXPECT_EQ(symmetric_kl(half, half.flip(0), ids({0, 1})).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace gatewright

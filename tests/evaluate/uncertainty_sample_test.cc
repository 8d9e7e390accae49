#include "gatewright/evaluate/uncertainty_sample.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing.h"

namespace gatewright {
namespace {

/// A layer of two experts whose tokens have these probabilities of the first.
RoutingRecord record_of(int64_t layer, const std::vector<float>& first) {
  const Tensor p = at::tensor(first);
  RoutingRecord record{.layer = layer};
  record.scores.logits = at::log(at::stack({p, 1 - p}, 1));
  record.scores.probabilities = at::softmax(record.scores.logits, -1);
  return record;
}

double entropy(double p) { return -p * std::log(p + 1e-5) - (1 - p) * std::log(1 - p + 1e-5); }

TEST(UncertaintySample, GivesTheThresholdsThatSharesOfTheTokensReach) {
  UncertaintySample sample;
  const Tensor all = at::ones({4}, at::kBool);
  sample.add({record_of(1, {0.5f, 0.6f, 0.7f, 0.8f}), record_of(3, {0.9f, 0.9f, 0.9f, 0.9f})}, all);
  Tensor last_is_filling = all.clone();
  last_is_filling[3] = false;
  sample.add({record_of(1, {0.85f, 0.9f, 0.95f, 0.5f}), record_of(3, {0.9f, 0.9f, 0.9f, 0.5f})},
             last_is_filling);
  const auto layers = sample.layers({0.3, 0.6});
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].layer, 1);
  EXPECT_EQ(layers[1].layer, 3);
  ASSERT_EQ(layers[0].thresholds.size(), 2u);
  EXPECT_NEAR(layers[0].thresholds[0], entropy(0.6), 1e-5) << "two of seven";
  EXPECT_NEAR(layers[0].thresholds[1], entropy(0.8), 1e-5) << "four of seven";
  EXPECT_NEAR(layers[1].mean, entropy(0.9), 1e-5);
  EXPECT_NEAR(layers[1].at_most, entropy(0.5), 1e-6);
  EXPECT_NEAR(sample.thresholds({0.5})[0], entropy(0.9), 1e-5) << "of all fourteen, the seventh";
}

TEST(UncertaintySample, NeedsATokenAndTheSameLayersAllTheTime) {
  UncertaintySample sample;
  EXPECT_EQ(error_of([&] { sample.thresholds({0.1}); }),
            "a threshold needs the uncertainty of at least one token");
  const Tensor one = at::ones({1}, at::kBool);
  sample.add({record_of(0, {0.5f})}, one);
  EXPECT_EQ(error_of([&] {
              sample.add({record_of(0, {0.5f}), record_of(1, {0.5f})}, one);
            }),
            "a batch of 2 routed layers after one of 1");
}

}  // namespace
}  // namespace gatewright

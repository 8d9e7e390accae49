#include "gatewright/routing/statistics.h"

#include <gtest/gtest.h>

#include "routing_testing.h"

namespace gatewright {
namespace {

/// A record of layer `layer` in which token t visits the experts listed; the logits are given.
RoutingRecord record_of(int64_t layer, const Tensor& logits,
                        const std::vector<std::vector<int32_t>>& chosen) {
  const Scores scores = scores_of(logits);
  return {.layer = layer, .scores = scores, .assignment = assign(scores, chosen)};
}

TEST(RoutingStatistics, AddUpCountsOverBatches) {
  RoutingStatistics statistics;
  EXPECT_TRUE(statistics.empty());
  EXPECT_EQ(statistics.load_imbalance(), 0);
  const std::vector<RoutingRecord> first = {record_of(2, tensor({1, -5, 0}, {1, 3}), {{0, 1}})};
  const std::vector<RoutingRecord> second = {
      record_of(2, tensor({1, 2, choice::kMask, 0, 0, 0}, {2, 3}), {{0}, {0}})};
  statistics.add(first);
  statistics.add(second);
  ASSERT_EQ(statistics.layers().size(), 1u);
  const LayerStatistics& layer = statistics.layers()[0];
  EXPECT_EQ(layer.layer, 2);
  EXPECT_EQ(layer.counts, (std::vector<double>{3, 1, 0}));
  EXPECT_EQ(layer.tokens, 3);
  EXPECT_EQ(layer.pairs(), 4);
  EXPECT_DOUBLE_EQ(layer.load_imbalance(), 3 / (4.0 / 3) - 1);
  EXPECT_EQ(layer.dead_experts(), 1);
  EXPECT_EQ(layer.largest_logit, 5) << "in absolute value";
  EXPECT_DOUBLE_EQ(statistics.experts_per_token(), 4.0 / 3);
  statistics.clear();
  EXPECT_TRUE(statistics.empty());
}

TEST(RoutingStatistics, LeaveOutTokensThatAreNotCounted) {
  const std::vector<RoutingRecord> records = {
      record_of(0, tensor({1, 2, 3, 0, 0, 0, 0, 5, 0}, {3, 3}), {{0, 1}, {2}, {1, 2}})};
  RoutingStatistics statistics;
  statistics.add(records, at::tensor({1, 1, 0}, at::kInt).to(at::kBool));
  EXPECT_EQ(statistics.layers()[0].counts, (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(statistics.layers()[0].tokens, 2);
}

TEST(RoutingStatistics, MeasureTheLargestLogitBesideMaskedOnes) {
  RoutingStatistics statistics;
  const std::vector<RoutingRecord> records = {
      record_of(0, tensor({choice::kMask, -7, 2, choice::kMask, 1, 0}, {2, 3}), {{1}, {1}})};
  statistics.add(records);
  EXPECT_EQ(statistics.largest_logit(), 7);
}

TEST(RoutingStatistics, AreMeansOverLayers) {
  RoutingStatistics statistics;
  const Tensor logits = at::zeros({2, 2});
  const std::vector<RoutingRecord> records = {record_of(0, logits, {{0}, {0}}),  // imbalance 1, one dead
                                              record_of(1, logits, {{0, 1}, {0, 1}})};  // even, two a token
  statistics.add(records);
  EXPECT_DOUBLE_EQ(statistics.load_imbalance(), 0.5);
  EXPECT_DOUBLE_EQ(statistics.experts_per_token(), 1.5);
  EXPECT_EQ(statistics.dead_experts(), 1);
}

TEST(RoutingStatistics, AverageBalanceTermsByName) {
  RoutingStatistics statistics;
  const auto with_term = [](int64_t layer, float value) {
    RoutingRecord record = record_of(layer, at::zeros({1, 2}), {{0}});
    record.balance = {{.name = "switch", .value = at::full({}, value), .weight = 0.5},
                      {.name = "loss_free_bias", .value = {}, .weight = 0}};
    return record;
  };
  statistics.add(std::vector{with_term(0, 1), with_term(1, 5)});
  statistics.add(std::vector{with_term(0, 3), with_term(1, 7)});
  const auto terms = statistics.balance();
  ASSERT_EQ(terms.size(), 1u) << "a term without a loss has no value";
  EXPECT_EQ(terms[0].first, "switch");
  EXPECT_DOUBLE_EQ(terms[0].second, 4) << "layers 2 and 6, without the weight";
}

TEST(RoutingStatistics, OfAnEmptyBatchAreZero) {
  RoutingStatistics statistics;
  statistics.add(std::vector{record_of(0, at::zeros({0, 4}), {})});
  EXPECT_EQ(statistics.load_imbalance(), 0);
  EXPECT_EQ(statistics.experts_per_token(), 0);
  EXPECT_EQ(statistics.dead_experts(), 4);
}

}  // namespace
}  // namespace gatewright

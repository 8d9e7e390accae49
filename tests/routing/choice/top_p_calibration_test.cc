#include "gatewright/routing/choice/top_p_calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/random.h"
#include "gatewright/routing/choice/registry.h"

namespace gatewright::choice {
namespace {

std::vector<float> softmax_of_normals(int64_t tokens, int64_t experts, double sharpness) {
  RandomStream random(7, "probabilities");
  std::vector<float> values;
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> row;
    double sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += row.emplace_back(std::exp(sharpness * random.normal()));
    for (double value : row) values.push_back(static_cast<float>(value / sum));
  }
  return values;
}

double experts_visited(const ScoreRows& rows, double p) {
  const auto& entry = selectors().at("top_p");
  const auto selector = entry.make(Values(entry.spec.parameters, {{"top_p", p}}, "top_p"));
  const Selection selection = selector->choose(rows, {});
  return static_cast<double>(selection.rows.expert.size()) / static_cast<double>(rows.num_tokens);
}

TEST(TopPCalibration, TheSelectorThenVisitsTheWantedNumberOfExperts) {
  for (double sharpness : {0.1, 1.0, 3.0}) {
    const auto values = softmax_of_normals(2000, 8, sharpness);
    const ScoreRows rows{.values = values, .num_tokens = 2000, .num_experts = 8};
    for (double wanted : {1.0, 1.3, 2.0, 3.5, 7.0})
      EXPECT_NEAR(experts_visited(rows, top_p_for(rows, wanted)), wanted, 2e-3) << sharpness;
  }
}

TEST(TopPCalibration, OfOneRowBySight) {
  const std::vector<float> row = {0.125F, 0.5F, 0.25F, 0.125F};  // sums 0.5, 0.75, 0.875
  const ScoreRows rows{.values = row, .num_tokens = 1, .num_experts = 4};
  EXPECT_DOUBLE_EQ(top_p_for(rows, 1), 0.25);
  EXPECT_DOUBLE_EQ(top_p_for(rows, 2), 0.625);
  EXPECT_DOUBLE_EQ(top_p_for(rows, 3), 0.8125);
  EXPECT_DOUBLE_EQ(top_p_for(rows, 4), 0.9375);
}

TEST(TopPCalibration, RefusesWhatCannotBe) {
  const std::vector<float> row = {0.5F, 0.5F};
  const ScoreRows rows{.values = row, .num_tokens = 1, .num_experts = 2};
  EXPECT_THROW(top_p_for(rows, 0.5), Error);
  EXPECT_THROW(top_p_for(rows, 2.5), Error);
  EXPECT_THROW(top_p_for({.values = {}, .num_tokens = 0, .num_experts = 2}, 1), Error);
}

}  // namespace
}  // namespace gatewright::choice

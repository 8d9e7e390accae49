// The numbers of many seeds, their intervals and the verdict; the data that experiments generate.
#include "experiments/experiment.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "experiments/small_model.h"
#include "tests/testing.h"

namespace gatewright::experiments {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Results results_of(const std::vector<double>& values) {
  Results results;
  for (double v : values) results.add({{"arm", "loss", v}});
  return results;
}

TEST(ExperimentResults, HaveMeanAndInterval) {
  // Mean 3, standard deviation sqrt(2.5), five values: 3 +- 2.776 sqrt(0.5)
  const Results five = results_of({1, 2, 3, 4, 5});
  EXPECT_EQ(five.seeds(), 5);
  EXPECT_DOUBLE_EQ(five.mean("arm", "loss"), 3);
  EXPECT_NEAR(five.at("arm", "loss").high(), 4.963, 1e-3);
  EXPECT_NEAR(five.at("arm", "loss").low(), 1.037, 1e-3);
  const Results one = results_of({2});
  EXPECT_EQ(one.at("arm", "loss").low(), 2);
  EXPECT_EQ(one.at("arm", "loss").high(), 2);
  EXPECT_THAT(error_of([&] { one.mean("arm", "speed"); }), HasSubstr("measured no speed of arm"));
}

TEST(ExperimentResults, IntervalsNarrowWithManySeeds) {
  std::vector<double> values;
  for (int i = 0; i < 40; ++i) values.push_back(i % 2);
  // Standard deviation 0.5064, t of 39 degrees of freedom 2.023
  EXPECT_NEAR(results_of(values).at("arm", "loss").high(), 0.5 + 2.023 * 0.5064 / std::sqrt(40.0), 1e-3);
}

TEST(ExperimentSeries, AreComparedSeedBySeed) {
  const Series first{"a", "loss", {3, 1}}, second{"b", "loss", {2, 4}};
  EXPECT_THAT(differences(first, second), ElementsAre(1, -3));
  EXPECT_THAT(ratios(first, second), ElementsAre(1.5, 0.25));
  EXPECT_THAT(error_of([&] {
                differences(first, {"b", "loss", {2}});
              }),
              HasSubstr("loss of a was measured 2 times, loss of b 1 times"));
}

TEST(ExperimentVerdict, IsTheWeakestFinding) {
  const Finding met{"a", "1", true, true}, sign{"b", "2", false, true}, wrong{"c", "3", false, false};
  EXPECT_EQ(verdict_of({met, met}), "reproduced");
  EXPECT_EQ(verdict_of({met, sign}), "direction");
  EXPECT_EQ(verdict_of({met, sign, wrong}), "not reproduced");
}

TEST(ExperimentList, SaysEverythingThatIsShown) {
  std::set<std::string> slugs;
  for (const Experiment& e : all_experiments()) {
    EXPECT_TRUE(slugs.insert(e.slug).second) << e.slug;
    for (const std::string& text : {e.title, e.source, e.claim, e.published, e.criterion, e.tuned_by})
      EXPECT_FALSE(text.empty()) << e.slug;
    EXPECT_GE(e.arms.size(), 2u) << e.slug;
    EXPECT_GT(e.budget_seconds, 0) << e.slug;
    EXPECT_LE(e.budget_seconds, 300) << e.slug;
    EXPECT_GT(e.full_seconds, e.budget_seconds) << e.slug;
  }
}

TEST(SuccessorLanguage, OfOneSuccessorIsCertain) {
  RandomStream random(3, "test");
  const SuccessorLanguage language({5, 6, 7, 9}, 1, random);
  std::map<int32_t, int32_t> next;
  for (int i = 0; i < 20; ++i) {
    const std::vector<int32_t> row = language.sequence(12, random);
    ASSERT_EQ(row.size(), 13u);
    for (size_t t = 0; t + 1 < row.size(); ++t)
      EXPECT_EQ(next.emplace(row[t], row[t + 1]).first->second, row[t + 1]);
  }
  EXPECT_EQ(next.size(), 4u);
}

TEST(SuccessorLanguage, DrawsDirichletProbabilities) {
  RandomStream random(4, "test");
  constexpr int kLanguages = 300;
  double squares = 0;
  for (int i = 0; i < kLanguages; ++i) {
    const SuccessorLanguage language({0, 1}, 2, random);
    std::map<int32_t, double> after_zero;
    double visits = 0;
    const std::vector<int32_t> row = language.sequence(2000, random);
    for (size_t t = 0; t + 1 < row.size(); ++t) {
      if (row[t] == 0) ++after_zero[row[t + 1]], ++visits;
    }
    for (const auto& [token, count] : after_zero)
      squares += visits > 0 ? count * count / (visits * visits) : 0;
  }
  // Dirichlet(1) over two: p is even in [0, 1], and E[p^2 + (1 - p)^2] = 2/3.
  EXPECT_NEAR(squares / kLanguages, 2.0 / 3, 0.05);
}

TEST(SmallModel, LearnsACertainLanguageAndRepeatsItself) {
  const auto final_loss = [] {
    RandomStream random(5, "test");
    const SuccessorLanguage language({0, 1, 2, 3, 4, 5, 6, 7}, 1, random);
    SmallModel model(
        "[model]\nhidden_size = 16\nnum_layers = 1\nnum_heads = 2\ninit = 0.1\n[experts]\nnum_experts = 4\n"
        "width = 8\n[routing]\ntop_k = 2\n",
        8, 1, 1e-2);
    double loss = 0;
    for (int step = 0; step < 60; ++step) {
      std::vector<std::vector<int32_t>> rows;
      for (int r = 0; r < 4; ++r) rows.push_back(language.sequence(8, random));
      const auto done = model.step({batch_of(rows)});
      EXPECT_THAT(done.experts_per_token, ElementsAre(2.0));
      loss = done.cross_entropy;
    }
    return loss;
  };
  const double loss = final_loss();
  EXPECT_LT(loss, 0.3);
  EXPECT_EQ(loss, final_loss());
}

}  // namespace
}  // namespace gatewright::experiments

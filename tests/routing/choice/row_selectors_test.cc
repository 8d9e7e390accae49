// Selectors that decide each token by its own scores: examples by hand, and brute force over all subsets.
#include "gatewright/routing/choice/selectors/row_selectors.h"

#include <gtest/gtest.h>

#include <bit>

#include "random_choice.h"

namespace gatewright::choice {
namespace {

using Ids = std::vector<int32_t>;

Ids chosen(const Selector& selector, std::vector<float> scores) {
  const auto width = static_cast<int64_t>(scores.size());
  return row(choose(selector, table(std::move(scores), width)).rows, 0);
}

Table random_probabilities(int64_t num_tokens, int64_t num_experts, RandomStream& random) {
  return activated(Activation::kSoftmax, random_logits(num_tokens, num_experts, random));
}

TEST(BestExperts, ComeByFallingScoreWithTiesToTheLowerId) {
  const std::vector<float> scores = {0.1f, 0.4f, kMask, 0.4f, 0.3f};
  EXPECT_EQ(best_experts(scores, 10), (Ids{1, 3, 4, 0}));
  EXPECT_EQ(best_experts(scores, 2), (Ids{1, 3}));
  EXPECT_EQ(best_experts(scores, 0), Ids{});
  EXPECT_EQ(best_experts(scores, -1), Ids{});
}

TEST(AppendBest, IsTheSetOfBestExperts) {
  RandomStream random(1, "scores");
  for (int64_t num_experts : {1, 3, 64, 200}) {
    for (int repeat = 0; repeat < 40; ++repeat) {
      Table scores = random_logits(1, num_experts, random);
      for (float& x : scores.values) {
        x = repeat % 2 == 0 ? x : static_cast<float>(random.below(5));  // without ties, and with many
        if (random.uniform() < 0.1f) x = kMask;
      }
      for (int64_t k : {0, 1, 2, 8, 64, 65, 300}) {
        Ids expected = best_experts(scores.values, k), found = {-7};
        std::ranges::sort(expected);
        expected.insert(expected.begin(), -7);
        append_best(scores.values, k, found);
        EXPECT_EQ(found, expected) << num_experts << " experts, k = " << k;
      }
    }
  }
}

TEST(TopK, TakesTheHighestScores) {
  const std::vector<float> scores = {0.1f, 0.4f, 0.2f, 0.3f};
  EXPECT_EQ(chosen(TopK(1), scores), (Ids{1}));
  EXPECT_EQ(chosen(TopK(2), scores), (Ids{1, 3}));
  EXPECT_EQ(chosen(TopK(9), scores), (Ids{0, 1, 2, 3}));
}

TEST(TopK, TakesFewerWhenFewerAreAllowed) {
  EXPECT_EQ(chosen(TopK(2), {kMask, 0.1f, kMask}), (Ids{1}));
  EXPECT_EQ(chosen(TopK(2), {kMask, kMask}), Ids{});
}

TEST(TopP, TakesTheSmallestSetThatExceedsP) {
  const std::vector<float> scores = {0.125f, 0.5f, 0.25f, 0.125f};  // exact in float
  EXPECT_EQ(chosen(TopP(0.4, 1, 0), scores), (Ids{1}));
  EXPECT_EQ(chosen(TopP(0.5, 1, 0), scores), (Ids{1, 2})) << "0.5 is not more than 0.5";
  EXPECT_EQ(chosen(TopP(0.75, 1, 0), scores), (Ids{0, 1, 2})) << "of two equal experts the lower id";
  EXPECT_EQ(chosen(TopP(1.0, 1, 0), scores), (Ids{0, 1, 2, 3})) << "no set exceeds 1: all";
}

TEST(TopP, KeepsBetweenMinExpertsAndMaxExperts) {
  const std::vector<float> scores = {0.125f, 0.5f, 0.25f, 0.125f};
  EXPECT_EQ(chosen(TopP(0.1, 3, 0), scores), (Ids{0, 1, 2}));
  EXPECT_EQ(chosen(TopP(0.9, 1, 2), scores), (Ids{1, 2}));
  EXPECT_EQ(chosen(TopP(0.1, 0, 0), scores), (Ids{1}))
      << "an empty set sums to 0, which is not more than 0.1";
}

TEST(TopP, IsTheSmallestOfAllSubsetsThatExceedP) {
  RandomStream random(2, "scores");
  for (int repeat = 0; repeat < 300; ++repeat) {
    const int64_t num_experts = 1 + static_cast<int64_t>(random.below(9));
    const Table scores = random_probabilities(1, num_experts, random);
    const double p = 0.05 + 0.9 * random.uniform_double();
    int smallest = 1 << 20;
    double most = 0;  // the largest sum of the smallest sets
    for (unsigned subset = 0; subset < (1u << num_experts); ++subset) {
      double sum = 0;
      for (int64_t e = 0; e < num_experts; ++e) sum += (subset >> e & 1u) ? scores.at(0, e) : 0;
      const int size = std::popcount(subset);
      if (sum <= p || size > smallest) continue;
      most = size < smallest ? sum : std::max(most, sum);
      smallest = size;
    }
    double sum = 0;
    const Ids ids = chosen(TopP(p, 1, 0), scores.values);
    for (int32_t e : ids) sum += scores.at(0, e);
    EXPECT_EQ(static_cast<int>(ids.size()), smallest) << "p = " << p;
    EXPECT_NEAR(sum, most, 1e-12) << "the most probable of the smallest sets";
  }
}

TEST(MinP, TakesExpertsNearTheBest) {
  const std::vector<float> scores = {0.5f, 0.25f, 0.1f, 0.15f};
  EXPECT_EQ(chosen(MinP(0.5), scores), (Ids{0, 1})) << "0.25 is exactly half of 0.5";
  EXPECT_EQ(chosen(MinP(0.2), scores), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(chosen(MinP(1.0), scores), (Ids{0}));
}

TEST(MinP, TakesTheBestAlsoWhereAllScoresAreNegative) {
  EXPECT_EQ(chosen(MinP(0.5), {-0.5f, -0.25f, kMask}), (Ids{1}));
  EXPECT_EQ(chosen(MinP(0.5), {kMask, kMask}), Ids{});
}

TEST(Threshold, TakesWhatExceedsItAndPossiblyNothing) {
  const std::vector<float> scores = {0.5f, 0.2f, 0.25f, 0.05f};
  EXPECT_EQ(chosen(Threshold(0.25, 0), scores), (Ids{0})) << "0.25 does not exceed 0.25";
  EXPECT_EQ(chosen(Threshold(0.6, 0), scores), Ids{});
  EXPECT_EQ(chosen(Threshold(0.6, 2), scores), (Ids{0, 2})) << "the best two in any case";
  EXPECT_EQ(chosen(Threshold(0.1, 2), scores), (Ids{0, 1, 2}));
}

TEST(Relu, TakesEveryPositiveLogit) {
  EXPECT_EQ(chosen(ReluSelector(), {1.0f, -1.0f, 0.0f, 1e-9f}), (Ids{0, 3}));
  EXPECT_EQ(chosen(ReluSelector(), {-1.0f, kMask}), Ids{});
  EXPECT_EQ(ReluSelector().reads(), Reads::kLogits);
}

TEST(All, TakesEveryExpertThatIsNotMasked) { EXPECT_EQ(chosen(All(), {0.0f, kMask, 0.3f}), (Ids{0, 2})); }

TEST(GroupLimitedTopK, RanksGroupsByTheirBestExpertOrByTheSumOfTwo) {
  // Groups {0.30, 0.01}, {0.2, 0.2}, {0.15, 0.14}.
  const std::vector<float> scores = {0.30f, 0.01f, 0.2f, 0.2f, 0.15f, 0.14f};
  EXPECT_EQ(chosen(GroupLimitedTopK(2, 3, 1, GroupScore::kBest), scores), (Ids{0, 1}));
  EXPECT_EQ(chosen(GroupLimitedTopK(2, 3, 1, GroupScore::kSumOfTwoBest), scores), (Ids{2, 3}));
  EXPECT_EQ(chosen(GroupLimitedTopK(2, 3, 2, GroupScore::kBest), scores), (Ids{0, 2}));
  EXPECT_EQ(chosen(GroupLimitedTopK(4, 3, 1, GroupScore::kBest), scores), (Ids{0, 1}))
      << "no more than the group holds";
}

/// The definition, expert by expert: an expert's group must be among the best, and fewer than k experts of
/// the best groups may come before it.
Ids group_limited_by_definition(const std::vector<float>& scores, int64_t k, int64_t groups, int64_t used,
                                bool sum_of_two) {
  const auto size = static_cast<int64_t>(scores.size()) / groups;
  std::vector<float> group_score;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<float> members(scores.begin() + g * size, scores.begin() + (g + 1) * size);
    std::ranges::sort(members, std::greater<>());
    group_score.push_back(members[0] + (sum_of_two && size > 1 ? members[1] : 0.0f));
  }
  const auto place = [](const std::vector<float>& values, size_t i, const auto& counts) {
    int64_t before = 0;
    for (size_t j = 0; j < values.size(); ++j)
      before += counts(j) && (values[j] > values[i] || (values[j] == values[i] && j < i));
    return before;
  };
  const auto in_group = [&](size_t e) {
    return place(group_score, e / static_cast<size_t>(size), [](size_t) { return true; }) < used;
  };
  Ids result;
  for (size_t e = 0; e < scores.size(); ++e) {
    if (in_group(e) && place(scores, e, in_group) < k) result.push_back(static_cast<int32_t>(e));
  }
  return result;
}

TEST(GroupLimitedTopK, IsItsDefinition) {
  RandomStream random(3, "scores");
  for (int repeat = 0; repeat < 300; ++repeat) {
    const int64_t groups = 1 + static_cast<int64_t>(random.below(5)),
                  size = 1 + static_cast<int64_t>(random.below(5)),
                  used = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(groups))),
                  k = 1 + static_cast<int64_t>(random.below(6));
    Table scores = random_probabilities(1, groups * size, random);
    if (repeat % 3 == 0) {
      for (float& x : scores.values) x = static_cast<float>(random.below(4)) * 0.125f;  // ties
    }
    for (GroupScore by : {GroupScore::kBest, GroupScore::kSumOfTwoBest}) {
      EXPECT_EQ(chosen(GroupLimitedTopK(k, groups, used, by), scores.values),
                group_limited_by_definition(scores.values, k, groups, used, by == GroupScore::kSumOfTwoBest));
    }
  }
}

TEST(GroupLimitedTopK, NeedsGroupsOfEqualSize) {
  const GroupLimitedTopK selector(2, 4, 2, GroupScore::kBest);
  EXPECT_EQ(error_of([&] { chosen(selector, std::vector<float>(10, 0.1f)); }),
            "[group_limited_top_k] 10 experts cannot be cut into 4 equal groups");
}

TEST(RowSelectors, RefuseParametersThatMakeNoSense) {
  EXPECT_EQ(error_of([] { TopK(0); }), "[top_k] top_k must be at least 1, got 0");
  EXPECT_EQ(error_of([] { TopP(1.5, 1, 0); }), "[top_p] p must lie in (0, 1], got 1.5");
  EXPECT_EQ(error_of([] { TopP(0, 1, 0); }), "[top_p] p must lie in (0, 1], got 0");
  EXPECT_EQ(error_of([] { TopP(0.5, -1, 0); }), "[top_p] min_experts and max_experts must not be negative");
  EXPECT_EQ(error_of([] { TopP(0.5, 3, 2); }), "[top_p] max_experts 2 is less than min_experts 3");
  EXPECT_EQ(error_of([] { MinP(0); }), "[min_p] min_p must be in (0, 1], got 0");
  EXPECT_EQ(error_of([] { Threshold(std::numeric_limits<double>::infinity(), 0); }),
            "[threshold] threshold must be finite, got inf");
  EXPECT_EQ(error_of([] { Threshold(0.1, -2); }), "[threshold] min_experts must not be negative, got -2");
  EXPECT_EQ(error_of([] { GroupLimitedTopK(0, 2, 1, GroupScore::kBest); }),
            "[group_limited_top_k] top_k must be at least 1, got 0");
  EXPECT_EQ(error_of([] { GroupLimitedTopK(1, 2, 3, GroupScore::kBest); }),
            "[group_limited_top_k] groups_used must be in [1, 2], got 3");
}

TEST(RowSelectors, ByNameRefuseValuesOutsideTheirSpecification) {
  EXPECT_EQ(error_of([] {
              Case{"top_k", {{"top_k", int64_t{0}}}}.make();
            }),
            "[top_k] top_k must be in [1, 65536], got 0");
  EXPECT_EQ(error_of([] {
              Case{"top_p", {{"top_p", 0.0}}}.make();
            }),
            "[top_p] top_p must be in (0, 1], got 0");
  EXPECT_EQ(error_of([] {
              Case{"min_p", {{"min_q", 0.5}}}.make();
            }),
            "[min_p] has no parameter 'min_q', did you mean 'min_p'?");
  const std::string error = error_of([] {
    Case{"group_limited_top_k", {{"group_score", std::string("worst")}}}.make();
  });
  EXPECT_TRUE(error.starts_with(
      "[group_limited_top_k] group_score must be one of best, sum_of_two_best, got 'worst'"))
      << error;
  EXPECT_EQ(error_of([] {
              Case{"top_q", {}}.make();
            }),
            "there is no selector 'top_q', did you mean 'top_k'?");
}

}  // namespace
}  // namespace gatewright::choice

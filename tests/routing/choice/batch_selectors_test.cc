// Selectors that look at the whole batch: expert choice against brute force, and random as a uniform draw.
#include "gatewright/routing/choice/selectors/batch_selectors.h"

#include <gtest/gtest.h>

#include <cmath>

#include "random_choice.h"

namespace gatewright::choice {
namespace {

using Lists = std::vector<std::vector<int32_t>>;

TEST(ExpertChoice, GivesEachExpertItsBestTokens) {
  // Expert 0 prefers tokens 2, 0; expert 1 prefers tokens 1, 2.
  const Table scores = table({0.6f, 0.1f,  //
                              0.1f, 0.9f,  //
                              0.8f, 0.5f,  //
                              0.2f, 0.3f},
                             2);
  EXPECT_EQ(lists(choose(ExpertChoice(1), scores).rows), (Lists{{0}, {1}, {0, 1}, {}}));
}

TEST(ExpertChoice, RoundsItsShareUp) {
  EXPECT_EQ(ExpertChoice::tokens_per_expert(2, 4096, 64), 128);
  EXPECT_EQ(ExpertChoice::tokens_per_expert(1, 10, 4), 3);
  EXPECT_EQ(ExpertChoice::tokens_per_expert(1.1, 100, 10), 11)
      << "1.1 x 100 is a little more than 110 in binary";
  EXPECT_EQ(ExpertChoice::tokens_per_expert(50, 10, 4), 10) << "no more than there are";
  EXPECT_EQ(ExpertChoice::tokens_per_expert(2, 0, 4), 0);
}

TEST(ExpertChoice, BreaksTiesToTheEarlierToken) {
  const Table scores = table({0.5f, 0.5f, 0.5f, 0.5f}, 1);
  EXPECT_EQ(lists(choose(ExpertChoice(0.5), scores).rows), (Lists{{0}, {0}, {}, {}}));
}

TEST(ExpertChoice, IsItsDefinition) {
  RandomStream random(1, "scores");
  for (int repeat = 0; repeat < 60; ++repeat) {
    const int64_t num_tokens = static_cast<int64_t>(random.below(30)),
                  num_experts = 1 + static_cast<int64_t>(random.below(6));
    Table scores = random_logits(num_tokens, num_experts, random);
    for (float& x : scores.values) {
      if (repeat % 2 == 0) x = static_cast<float>(random.below(4));
      if (random.uniform() < 0.1f) x = kMask;
    }
    const double wanted = 0.3 + 2 * random.uniform_double();
    const auto share = static_cast<int64_t>(
        std::ceil(wanted * static_cast<double>(num_tokens) / static_cast<double>(num_experts)));
    Lists expected(static_cast<size_t>(num_tokens));
    for (int64_t t = 0; t < num_tokens; ++t) {
      for (int64_t e = 0; e < num_experts; ++e) {
        int64_t before = 0;
        for (int64_t u = 0; u < num_tokens; ++u)
          before += scores.at(u, e) > scores.at(t, e) || (scores.at(u, e) == scores.at(t, e) && u < t);
        if (before < share && scores.at(t, e) != kMask)
          expected[static_cast<size_t>(t)].push_back(static_cast<int32_t>(e));
      }
    }
    EXPECT_EQ(lists(choose(ExpertChoice(wanted), scores).rows), expected);
  }
}

TEST(ExpertChoice, FollowsTheTokensWhenTheyArePermuted) {
  RandomStream random(2, "scores");
  const Table scores = random_logits(50, 8, random);
  const std::vector<int64_t> order = random_order(50, random);
  Table permuted = scores;
  for (int64_t t = 0; t < 50; ++t) {
    for (int64_t e = 0; e < 8; ++e) permuted.at(t, e) = scores.at(order[static_cast<size_t>(t)], e);
  }
  const Lists before = lists(choose(ExpertChoice(2), scores).rows);
  const Lists after = lists(choose(ExpertChoice(2), permuted).rows);
  for (size_t t = 0; t < 50; ++t) EXPECT_EQ(after[t], before[static_cast<size_t>(order[t])]);
}

TEST(ExpertChoice, NeedsAPositiveShare) {
  EXPECT_EQ(error_of([] { ExpertChoice(0); }),
            "[expert_choice] experts_per_token must be more than 0, got 0");
}

TEST(Random, DrawsKDifferentExpertsUniformlyWhateverTheScores) {
  constexpr int64_t kTokens = 8000, kExperts = 5;
  RandomStream random(3, "scores"), stream(4, "draws");
  const Table scores = random_logits(kTokens, kExperts, random);
  const Rows rows = RandomSelector(2).choose(scores, {.layer = 0, .random = &stream}).rows;
  std::map<std::vector<int32_t>, int> count;
  for (const auto& ids : lists(rows)) ++count[ids];
  EXPECT_EQ(count.size(), 10u) << "all pairs of 5 experts";
  for (const auto& [ids, n] : count) {
    ASSERT_EQ(ids.size(), 2u);
    EXPECT_NEAR(n, 800, 5 * std::sqrt(800 * 0.9)) << "five standard deviations";
  }
}

TEST(Random, DrawsAnewAtEachCallAndRepeatsWithTheStream) {
  RandomStream random(5, "scores"), stream(6, "draws"), same(6, "draws");
  const Table scores = random_logits(100, 8, random);
  const auto draw = [&](RandomStream& from) {
    return RandomSelector(2).choose(scores, {.layer = 0, .random = &from}).rows.expert;
  };
  const auto first = draw(stream), second = draw(stream);
  EXPECT_NE(first, second);
  EXPECT_EQ(draw(same), first);
  EXPECT_EQ(draw(same), second);
}

TEST(Random, DrawsTheSameForATokenWhateverComesAfterIt) {
  RandomStream random(7, "scores");
  const Table scores = random_logits(400, 8, random);
  const RandomSelector selector(3);
  const Table first = table({scores.values.begin(), scores.values.begin() + 100 * 8}, 8);
  const Lists whole = lists(choose(selector, scores).rows), start = lists(choose(selector, first).rows);
  EXPECT_EQ(Lists(whole.begin(), whole.begin() + 100), start);
}

TEST(Random, NeedsAStream) {
  const Table scores = table({0.5f, 0.5f}, 2);
  EXPECT_EQ(error_of([&] { RandomSelector(1).choose(scores, {.layer = 9}); }),
            "layer 9: the selector random needs a random stream");
  EXPECT_EQ(error_of([] { RandomSelector(0); }), "[random] top_k must be at least 1, got 0");
}

}  // namespace
}  // namespace gatewright::choice

// Capacity and force: examples by hand, and capacity against its definition.
#include "gatewright/routing/choice/selectors/decorators.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "random_choice.h"

namespace gatewright::choice {
namespace {

using Lists = std::vector<std::vector<int32_t>>;

Capacity top_k_with_capacity(int64_t k, double factor, Overflow overflow) {
  return {std::make_unique<TopK>(k), factor, overflow};
}

/// Three of four tokens prefer expert 0; at factor 1 each of two experts takes two tokens.
const Table kCrowded = table({0.6f, 0.4f,  //
                              0.9f, 0.1f,  //
                              0.8f, 0.2f,  //
                              0.3f, 0.7f},
                             2);

TEST(Capacity, DropsLaterTokensByPosition) {
  const Selection selection = choose(top_k_with_capacity(1, 1.0, Overflow::kDropByPosition), kCrowded);
  EXPECT_EQ(lists(selection.rows), (Lists{{0}, {0}, {}, {1}}));
  ASSERT_TRUE(selection.before_capacity);
  EXPECT_EQ(lists(*selection.before_capacity), (Lists{{0}, {0}, {0}, {1}}));
}

TEST(Capacity, DropsTheLowestScoresByScore) {
  const Selection selection = choose(top_k_with_capacity(1, 1.0, Overflow::kDropByScore), kCrowded);
  EXPECT_EQ(lists(selection.rows), (Lists{{}, {0}, {0}, {1}}));
}

TEST(Capacity, BreaksEqualScoresToTheEarlierToken) {
  const Table equal = table({0.9f, 0.1f, 0.9f, 0.1f, 0.9f, 0.1f, 0.9f, 0.1f}, 2);
  EXPECT_EQ(lists(choose(top_k_with_capacity(1, 1.0, Overflow::kDropByScore), equal).rows),
            (Lists{{0}, {0}, {}, {}}));
}

TEST(Capacity, ReroutesToTheNextBestExpertWithRoom) {
  const Selection selection = choose(top_k_with_capacity(1, 1.0, Overflow::kReroute), kCrowded);
  EXPECT_EQ(lists(selection.rows), (Lists{{0}, {0}, {1}, {1}}));
  EXPECT_FALSE(selection.before_capacity) << "weights are normalised over where the token goes";
}

TEST(Capacity, LetsAllPassWhenThereIsRoom) {
  for (Overflow overflow : {Overflow::kDropByPosition, Overflow::kDropByScore, Overflow::kReroute}) {
    const Selection selection = choose(top_k_with_capacity(1, 1.5, overflow), kCrowded);
    EXPECT_EQ(lists(selection.rows), (Lists{{0}, {0}, {0}, {1}}));
  }
}

TEST(Capacity, RoundsItsLimitUpButNotForRoundingErrors) {
  // 100 tokens, 10 experts, all to expert 0: the limit of 1.1 is 11 tokens.
  Table scores = table(std::vector<float>(1000, 0.0f), 10);
  for (int64_t t = 0; t < 100; ++t) scores.at(t, 0) = 1;
  EXPECT_EQ(choose(top_k_with_capacity(1, 1.1, Overflow::kDropByPosition), scores).rows.expert.size(), 11u);
  EXPECT_EQ(choose(top_k_with_capacity(1, 1.11, Overflow::kDropByPosition), scores).rows.expert.size(), 12u);
}

/// Pair by pair: kept while its expert has room, in order of position or of score.
Lists by_definition(const Table& scores, const Lists& chosen, int64_t limit, Overflow overflow) {
  Lists kept(chosen.size());
  std::vector<int64_t> load(static_cast<size_t>(scores.num_experts));
  for (int32_t e = 0; e < scores.num_experts; ++e) {
    std::vector<int64_t> tokens;
    for (size_t t = 0; t < chosen.size(); ++t) {
      if (std::ranges::count(chosen[t], e) > 0) tokens.push_back(static_cast<int64_t>(t));
    }
    if (overflow == Overflow::kDropByScore)
      std::ranges::stable_sort(tokens,
                               [&](int64_t a, int64_t b) { return scores.at(a, e) > scores.at(b, e); });
    for (int64_t t : tokens) {
      if (load[static_cast<size_t>(e)]++ < limit) kept[static_cast<size_t>(t)].push_back(e);
    }
    load[static_cast<size_t>(e)] = std::min(load[static_cast<size_t>(e)], limit);
  }
  if (overflow == Overflow::kReroute) {
    for (size_t t = 0; t < chosen.size(); ++t) {
      for (int32_t e : best_experts(scores.rows().row(static_cast<int64_t>(t)), scores.num_experts)) {
        if (kept[t].size() == chosen[t].size()) break;
        if (load[static_cast<size_t>(e)] == limit || std::ranges::count(kept[t], e) > 0) continue;
        kept[t].push_back(e);
        ++load[static_cast<size_t>(e)];
      }
    }
  }
  for (auto& ids : kept) std::ranges::sort(ids);
  return kept;
}

TEST(Capacity, IsItsDefinition) {
  RandomStream random(1, "scores");
  for (int repeat = 0; repeat < 100; ++repeat) {
    const int64_t num_tokens = static_cast<int64_t>(random.below(40)),
                  num_experts = 1 + static_cast<int64_t>(random.below(8)),
                  k = 1 + static_cast<int64_t>(random.below(3));
    Table scores = random_logits(num_tokens, num_experts, random);
    for (float& x : scores.values) {
      if (repeat % 2 == 0) x = static_cast<float>(random.below(4));
      if (random.uniform() < 0.1f) x = kMask;
    }
    const double factor = 0.3 + random.uniform_double();
    const Lists chosen = lists(choose(TopK(k), scores).rows);
    double pairs = 0;
    for (const auto& ids : chosen) pairs += static_cast<double>(ids.size());
    const auto limit = static_cast<int64_t>(std::ceil(factor * pairs / static_cast<double>(num_experts)));
    for (Overflow overflow : {Overflow::kDropByPosition, Overflow::kDropByScore, Overflow::kReroute}) {
      const Selection selection = choose(top_k_with_capacity(k, factor, overflow), scores);
      EXPECT_EQ(lists(selection.rows), by_definition(scores, chosen, limit, overflow));
      const Pairs loads = by_expert(selection.rows, num_experts);
      for (size_t e = 0; e < static_cast<size_t>(num_experts); ++e)
        EXPECT_LE(loads.expert_begin[e + 1] - loads.expert_begin[e], limit);
    }
  }
}

TEST(Capacity, AroundCapacityRemembersTheFirstChoice) {
  auto inner = std::make_unique<Capacity>(top_k_with_capacity(1, 1.0, Overflow::kDropByPosition));
  const Selection selection = choose(Capacity(std::move(inner), 0.5, Overflow::kDropByScore), kCrowded);
  EXPECT_EQ(lists(selection.rows), (Lists{{}, {0}, {}, {1}})) << "ceil(0.5 x 3 / 2) = 1 token an expert";
  EXPECT_EQ(lists(*selection.before_capacity), (Lists{{0}, {0}, {0}, {1}}));
}

TEST(Capacity, NeedsAPositiveFactor) {
  EXPECT_EQ(error_of([] { top_k_with_capacity(1, 0, Overflow::kReroute); }),
            "[capacity] factor must be more than 0, got 0");
}

Lists forced(std::vector<int32_t> experts, bool add, const Table& scores, int64_t k = 2) {
  return lists(choose(Force(std::make_unique<TopK>(k), std::move(experts), add), scores).rows);
}

TEST(Force, TakesThePlaceOfTheLowestChosenExpert) {
  const Table scores = table({0.1f, 0.4f, 0.2f, 0.3f}, 4);  // top-2: 1, 3
  EXPECT_EQ(forced({0}, false, scores), (Lists{{0, 1}}));
  EXPECT_EQ(forced({3}, false, scores), (Lists{{1, 3}})) << "already chosen";
  EXPECT_EQ(forced({0, 2}, false, scores), (Lists{{0, 2}}));
  EXPECT_EQ(forced({0, 2, 3}, false, scores), (Lists{{0, 2, 3}})) << "more than the token's places";
}

TEST(Force, AddsOnTopWhenAsked) {
  const Table scores = table({0.1f, 0.4f, 0.2f, 0.3f}, 4);
  EXPECT_EQ(forced({0}, true, scores), (Lists{{0, 1, 3}}));
  EXPECT_EQ(forced({3}, true, scores), (Lists{{1, 3}}));
}

TEST(Force, LeavesAMaskedExpertOut) {
  const Table scores = table({kMask, 0.4f, 0.2f, 0.3f}, 4);
  EXPECT_EQ(forced({0, 2}, false, scores), (Lists{{1, 2}}));
  EXPECT_EQ(forced({0}, true, scores), (Lists{{1, 3}}));
}

TEST(Force, AroundCapacityIsForcedInBothChoices) {
  auto inner = std::make_unique<Capacity>(top_k_with_capacity(1, 1.0, Overflow::kDropByPosition));
  const Selection selection = choose(Force(std::move(inner), {1}, true), kCrowded);
  EXPECT_EQ(lists(selection.rows), (Lists{{0, 1}, {0, 1}, {1}, {1}}));
  EXPECT_EQ(lists(*selection.before_capacity), (Lists{{0, 1}, {0, 1}, {0, 1}, {1}}));
}

TEST(Force, NeedsDifferentExpertsThatExist) {
  const Table scores = table({0.5f, 0.5f}, 2);
  EXPECT_EQ(error_of([&] { forced({1, 1}, false, scores); }), "[force] an expert is given twice");
  EXPECT_EQ(error_of([&] { forced({-1}, false, scores); }), "[force] expert -1 does not exist");
  EXPECT_EQ(error_of([&] { forced({2}, false, scores); }),
            "[force] there is no expert 2 in layer 0; the experts are 0 to 1");
}

}  // namespace
}  // namespace gatewright::choice

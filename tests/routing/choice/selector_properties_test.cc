// What holds for every registered selector, and for every decorator around every selector. The lists are the
// registries': a selector that is added is tested without a line here.
#include <gtest/gtest.h>

#include <set>

#include "random_choice.h"

namespace gatewright::choice {
namespace {

constexpr int64_t kExperts[] = {4, 8, 64};

/// A table with masked cells, and one row that is masked completely.
Table with_masks(Table logits, RandomStream& random) {
  for (float& x : logits.values) {
    if (random.uniform() < 0.2f) x = kMask;
  }
  if (logits.num_tokens > 2) {
    for (int64_t e = 0; e < logits.num_experts; ++e) logits.at(2, e) = kMask;
  }
  return logits;
}

void expect_valid(const Selection& selection, const ScoreRows& scores, const std::string& what) {
  const Rows& rows = selection.rows;
  ASSERT_EQ(rows.num_tokens(), scores.num_tokens) << what;
  ASSERT_EQ(rows.row_begin.front(), 0) << what;
  ASSERT_EQ(rows.row_begin.back(), static_cast<int64_t>(rows.expert.size())) << what;
  for (int64_t t = 0; t < rows.num_tokens(); ++t) {
    ASSERT_LE(rows.row_begin[static_cast<size_t>(t)], rows.row_begin[static_cast<size_t>(t) + 1]) << what;
    const std::vector<int32_t> ids = row(rows, t);
    EXPECT_TRUE(std::ranges::is_sorted(ids, std::less_equal<>()) || ids.size() < 2)
        << what << ": experts ascend and none is there twice";
    EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()).size(), ids.size()) << what;
    for (int32_t e : ids) {
      ASSERT_GE(e, 0) << what;
      ASSERT_LT(e, scores.num_experts) << what;
      EXPECT_NE(scores.row(t)[static_cast<size_t>(e)], kMask) << what << ": a masked expert was chosen";
    }
  }
  const Pairs pairs = by_expert(rows, scores.num_experts);
  EXPECT_NO_THROW(validate(pairs, what));
  EXPECT_EQ(by_token(pairs).expert, rows.expert) << what;
  EXPECT_EQ(by_token(pairs).row_begin, rows.row_begin) << what;
}

std::vector<std::pair<std::string, Given>> decorator_settings() {
  std::vector<std::pair<std::string, Given>> result;
  for (const std::string& name : selector_decorators().names()) {
    if (name == "force") {
      result.push_back({name, {{"experts", std::vector<int64_t>{3, 1}}}});
      result.push_back({name, {{"experts", std::vector<int64_t>{0}}, {"add", true}}});
    } else if (name == "capacity") {
      for (const char* overflow : {"drop_by_position", "drop_by_score", "reroute"})
        result.push_back({name, {{"factor", 0.8}, {"overflow", std::string(overflow)}}});
    } else {
      result.push_back({name, {}});
    }
  }
  return result;
}

std::unique_ptr<Selector> decorated(const Case& inner, const std::string& name, const Given& given) {
  const auto& entry = selector_decorators().at(name);
  return entry.make(inner.make(), Values(entry.spec.parameters, given, name));
}

/// Calls body(name, selector) for every selector and every decorator around every selector.
template <typename Body>
void for_each_selector(int64_t num_experts, const Body& body) {
  for (const Case& c : all_cases(num_experts)) {
    body(c.text(), *c.make());
    for (const auto& [name, given] : decorator_settings())
      body(name + " around " + c.text(), *decorated(c, name, given));
  }
}

TEST(EverySelector, IsRegisteredUnderTheNameThatRecipesUse) {
  for (const char* name : {"top_k", "top_p", "min_p", "threshold", "relu", "expert_choice",
                           "group_limited_top_k", "random", "all"})
    EXPECT_NE(selectors().find(name), nullptr) << name;
  for (const char* name : {"force", "capacity"}) EXPECT_NE(selector_decorators().find(name), nullptr) << name;
  const std::vector<std::string> names = selectors().names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << "no name twice";
}

TEST(EverySelector, SaysWhatItDoesAndWhereItComesFrom) {
  for (const auto& entry : selectors().entries()) {
    EXPECT_FALSE(entry.spec.summary.empty()) << entry.spec.name;
    EXPECT_FALSE(entry.spec.source.empty()) << entry.spec.name;
    EXPECT_FALSE(entry.spec.formula.empty()) << entry.spec.name;
    EXPECT_EQ(entry.spec.summary.find('\n'), std::string::npos) << entry.spec.name;
    for (const Parameter& p : entry.spec.parameters) EXPECT_FALSE(p.help.empty()) << p.name;
  }
}

TEST(EverySelector, GivesDifferentUnmaskedExpertsInAscendingOrder) {
  RandomStream random(1, "scores");
  for (int64_t num_experts : kExperts) {
    for_each_selector(num_experts, [&](const std::string& name, const Selector& selector) {
      for (int64_t num_tokens : {1, 7, 200}) {
        const Table logits = with_masks(random_logits(num_tokens, num_experts, random), random);
        const Table scores = compared(selector, logits);
        const Selection selection = choose(selector, scores);
        expect_valid(selection, scores, name);
        if (selection.before_capacity)
          expect_valid({.rows = *selection.before_capacity}, scores, name + ", before capacity");
      }
    });
  }
}

TEST(EverySelector, TakesNothingFromAnEmptyBatch) {
  for_each_selector(8, [](const std::string& name, const Selector& selector) {
    const Selection selection = choose(selector, {.values = {}, .num_tokens = 0, .num_experts = 8});
    EXPECT_EQ(selection.rows.num_tokens(), 0) << name;
    EXPECT_TRUE(selection.rows.expert.empty()) << name;
    EXPECT_EQ(by_expert(selection.rows, 8).num_experts(), 8) << name;
  });
}

TEST(EverySelector, WorksWithOneExpert) {
  const Table scores = table({1.0f, 0.5f, 0.9f}, 1);
  for (const Case& c : all_cases(1)) {
    const Selection selection = choose(*c.make(), scores);
    expect_valid(selection, scores, c.text());
  }
}

TEST(EverySelector, GivesTheSameChoiceForTheSameScoresAndStream) {
  RandomStream random(2, "scores");
  const Table logits = random_logits(300, 8, random);
  for_each_selector(8, [&](const std::string& name, const Selector& selector) {
    const Table scores = compared(selector, logits);
    EXPECT_EQ(choose(selector, scores).rows.expert, choose(selector, scores).rows.expert) << name;
  });
}

TEST(EverySelector, NamesTheLayerAndTheTokenOfAScoreThatIsNotANumber) {
  RandomStream random(3, "scores");
  Table scores = compared(*Case{"top_k", {}}.make(), random_logits(300, 8, random));
  scores.at(250, 5) = std::numeric_limits<float>::quiet_NaN();
  for_each_selector(8, [&](const std::string& name, const Selector& selector) {
    const std::string error = error_of([&] { choose(selector, scores, 7); });
    EXPECT_NE(error.find("layer 7: the router's score of token 250 for expert 5 is not a number"),
              std::string::npos)
        << name << " said: " << error;
  });
  scores.at(250, 5) = std::numeric_limits<float>::infinity();
  for_each_selector(8, [&](const std::string& name, const Selector& selector) {
    const std::string error = error_of([&] { choose(selector, scores, 7); });
    EXPECT_NE(error.find("token 250 for expert 5 is infinite"), std::string::npos)
        << name << " said: " << error;
  });
}

TEST(EverySelector, RefusesScoresThatAreNotATable) {
  const std::vector<float> values(7, 0.5f);
  for_each_selector(4, [&](const std::string& name, const Selector& selector) {
    EXPECT_EQ(error_of([&] { choose(selector, {.values = values, .num_tokens = 2, .num_experts = 4}, 3); }),
              "layer 3: 7 scores were given for 2 tokens and 4 experts")
        << name;
    EXPECT_EQ(error_of([&] { choose(selector, {.values = {}, .num_tokens = 2, .num_experts = 0}, 3); }),
              "layer 3: a router needs at least one expert, got 0")
        << name;
  });
}

TEST(EverySelector, ThatLooksAtOneRowDecidesEachRowByItself) {
  RandomStream random(4, "scores");
  constexpr int64_t kTokens = 150, kWidth = 8;
  const Table logits = random_logits(kTokens, kWidth, random);
  for_each_selector(kWidth, [&](const std::string& name, const Selector& selector) {
    if (!selector.looks_at_one_row()) return;
    const Table scores = compared(selector, logits);
    const auto whole = lists(choose(selector, scores).rows);
    for (int64_t t : random_order(kTokens, random)) {
      const auto values = scores.rows().row(t);
      const ScoreRows alone{.values = values, .num_tokens = 1, .num_experts = kWidth};
      EXPECT_EQ(row(choose(selector, alone).rows, 0), whole[static_cast<size_t>(t)]) << name;
    }
  });
}

/// A new order of the experts; whole groups and experts within a group for a selector with groups.
std::vector<int64_t> expert_order(const Case& c, int64_t num_experts, RandomStream& random) {
  const auto& entry = selectors().at(c.name);
  const Values values(entry.spec.parameters, c.given, c.name);
  const int64_t groups = values.all().contains("num_groups") ? values.integer("num_groups") : 1;
  const int64_t size = num_experts / groups;
  std::vector<int64_t> order;
  for (int64_t g : random_order(groups, random)) {
    for (int64_t i : random_order(size, random)) order.push_back(g * size + i);
  }
  return order;
}

TEST(EverySelector, FollowsTheExpertsWhenTheyArePermuted) {
  RandomStream random(5, "scores");
  for (int64_t num_experts : kExperts) {
    for (const Case& c : all_cases(num_experts)) {
      const auto selector = c.make();
      if (draws(*selector)) continue;
      const Table scores = compared(*selector, random_logits(90, num_experts, random));
      const std::vector<int64_t> order = expert_order(c, num_experts, random);
      Table permuted = scores;
      for (int64_t t = 0; t < scores.num_tokens; ++t) {
        for (int64_t e = 0; e < num_experts; ++e)
          permuted.at(t, e) = scores.at(t, order[static_cast<size_t>(e)]);
      }
      const auto expected = lists(choose(*selector, scores).rows);
      auto found = lists(choose(*selector, permuted).rows);
      for (auto& ids : found) {
        for (int32_t& e : ids) e = static_cast<int32_t>(order[static_cast<size_t>(e)]);
        std::ranges::sort(ids);
      }
      EXPECT_EQ(found, expected) << c.text();
    }
  }
}

TEST(EverySelector, BreaksTiesToTheLowerExpertId) {
  for (int64_t num_experts : kExperts) {
    for (const Case& c : all_cases(num_experts)) {
      const auto selector = c.make();
      if (draws(*selector)) continue;
      const Table scores{.values = std::vector<float>(static_cast<size_t>(3 * num_experts), 0.25f),
                         .num_tokens = 3,
                         .num_experts = num_experts};
      for (const auto& ids : lists(choose(*selector, scores).rows)) {
        for (size_t i = 0; i < ids.size(); ++i)
          EXPECT_EQ(ids[i], static_cast<int32_t>(i)) << c.text() << ": of equal experts the first are chosen";
      }
    }
  }
}

TEST(EverySelector, WithManyTiesPrefersTheHigherScoreThenTheLowerId) {
  RandomStream random(6, "scores");
  Table scores = random_logits(200, 16, random);
  for (float& x : scores.values) x = static_cast<float>(random.below(4)) * 0.125f;
  for (const Case& c : all_cases(16)) {
    const auto selector = c.make();
    if (draws(*selector) || !selector->looks_at_one_row() || c.name == "group_limited_top_k") continue;
    const Rows rows = choose(*selector, scores).rows;
    for (int64_t t = 0; t < scores.num_tokens; ++t) {
      const std::vector<int32_t> ids = row(rows, t);
      for (int32_t in : ids) {
        for (int32_t out = 0; out < 16; ++out) {
          if (std::ranges::binary_search(ids, out)) continue;
          const float a = scores.at(t, in), b = scores.at(t, out);
          EXPECT_TRUE(a > b || (a == b && in < out)) << c.text() << ": " << in << " before " << out;
        }
      }
    }
  }
}

TEST(EverySelector, ThatDrawsMovesTheStreamByTheSameAmountForAnyBatch) {
  for (const Case& c : all_cases(8)) {
    const auto selector = c.make();
    std::set<uint64_t> positions;
    for (int64_t num_tokens : {0, 1, 100}) {
      RandomStream random(1, "stream"), stream(2, "stream");
      selector->choose(random_logits(num_tokens, 8, random), {.layer = 0, .random = &stream});
      positions.insert(stream.position());
    }
    EXPECT_EQ(positions.size(), 1u) << c.text();
  }
}

}  // namespace
}  // namespace gatewright::choice

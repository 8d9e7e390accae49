// What holds for every selector, as checks that a test calls: for the registered ones in
// selector_properties_test.cc, and for one of your own with expect_selector_properties(entry).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/routing/choice/random_choice.h"

namespace gatewright::choice {

/// A table with masked cells, and one row that is masked completely.
inline Table with_masks(Table logits, RandomStream& random) {
  for (float& x : logits.values) {
    if (random.uniform() < 0.2f) x = kMask;
  }
  if (logits.num_tokens > 2) {
    for (int64_t e = 0; e < logits.num_experts; ++e) logits.at(2, e) = kMask;
  }
  return logits;
}

inline void expect_valid(const Selection& selection, const ScoreRows& scores) {
  const Rows& rows = selection.rows;
  ASSERT_EQ(rows.num_tokens(), scores.num_tokens);
  ASSERT_EQ(rows.row_begin.front(), 0);
  ASSERT_EQ(rows.row_begin.back(), static_cast<int64_t>(rows.expert.size()));
  for (int64_t t = 0; t < rows.num_tokens(); ++t) {
    ASSERT_LE(rows.row_begin[static_cast<size_t>(t)], rows.row_begin[static_cast<size_t>(t) + 1]);
    const std::vector<int32_t> ids = row(rows, t);
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_GE(ids[i], 0);
      ASSERT_LT(ids[i], scores.num_experts);
      EXPECT_TRUE(i == 0 || ids[i - 1] < ids[i]) << "experts ascend and none is there twice";
      EXPECT_NE(scores.row(t)[static_cast<size_t>(ids[i])], kMask) << "a masked expert was chosen";
    }
  }
  const Pairs pairs = by_expert(rows, scores.num_experts);
  EXPECT_NO_THROW(validate(pairs, "choice"));
  EXPECT_EQ(by_token(pairs).expert, rows.expert);
  EXPECT_EQ(by_token(pairs).row_begin, rows.row_begin);
}

inline void expect_valid_choices(const Selector& selector, int64_t num_experts) {
  RandomStream random(1, "scores");
  for (int64_t num_tokens : {1, 7, 200}) {
    const Table scores =
        compared(selector, with_masks(random_logits(num_tokens, num_experts, random), random));
    const Selection selection = choose(selector, scores);
    expect_valid(selection, scores);
    if (selection.before_capacity) expect_valid({.rows = *selection.before_capacity}, scores);
    EXPECT_EQ(choose(selector, scores).rows.expert, selection.rows.expert) << "the same again";
  }
}

inline void expect_nothing_from_an_empty_batch(const Selector& selector, int64_t num_experts) {
  const Selection selection = choose(selector, {.values = {}, .num_tokens = 0, .num_experts = num_experts});
  EXPECT_EQ(selection.rows.num_tokens(), 0);
  EXPECT_TRUE(selection.rows.expert.empty());
  EXPECT_EQ(by_expert(selection.rows, num_experts).num_experts(), num_experts);
}

/// Scores that no choice can be made from: the error names the layer, and the token where there is one.
inline void expect_errors_for_bad_scores(const Selector& selector, int64_t num_experts) {
  RandomStream random(3, "scores");
  Table scores = compared(selector, random_logits(300, num_experts, random));
  const std::string where =
      "layer 7: the router's score of token 250 for expert " + std::to_string(num_experts - 1) + " is ";
  for (const auto& [value, what] : {std::pair(std::numeric_limits<float>::quiet_NaN(), "not a number"),
                                    std::pair(std::numeric_limits<float>::infinity(), "infinite")}) {
    scores.at(250, num_experts - 1) = value;
    const std::string error = error_of([&] { choose(selector, scores, 7); });
    EXPECT_TRUE(error.starts_with(where + what)) << error;
  }
  const std::vector<float> values(7, 0.5f);
  EXPECT_EQ(error_of([&] { choose(selector, {.values = values, .num_tokens = 2, .num_experts = 4}, 3); }),
            "layer 3: 7 scores were given for 2 tokens and 4 experts");
  EXPECT_EQ(error_of([&] { choose(selector, {.values = {}, .num_tokens = 2, .num_experts = 0}, 3); }),
            "layer 3: a router needs at least one expert, got 0");
}

/// For selectors that look at one row: each row alone, in any order, gives what it gives in the batch.
inline void expect_each_row_by_itself(const Selector& selector, int64_t num_experts) {
  if (!selector.looks_at_one_row()) return;
  RandomStream random(4, "scores");
  const Table scores = compared(selector, random_logits(150, num_experts, random));
  const auto whole = lists(choose(selector, scores).rows);
  for (int64_t t : random_order(150, random)) {
    const ScoreRows alone{.values = scores.rows().row(t), .num_tokens = 1, .num_experts = num_experts};
    EXPECT_EQ(row(choose(selector, alone).rows, 0), whole[static_cast<size_t>(t)]);
  }
}

/// Experts in another order: whole groups, and experts within their group, when the selector has groups.
inline void expect_to_follow_permuted_experts(const Selector& selector, int64_t num_experts,
                                              int64_t num_groups) {
  if (draws(selector)) return;
  RandomStream random(5, "scores");
  const Table scores = compared(selector, random_logits(90, num_experts, random));
  std::vector<int64_t> order;
  const int64_t size = num_experts / num_groups;
  for (int64_t g : random_order(num_groups, random)) {
    for (int64_t i : random_order(size, random)) order.push_back(g * size + i);
  }
  Table permuted = scores;
  for (int64_t t = 0; t < scores.num_tokens; ++t) {
    for (int64_t e = 0; e < num_experts; ++e) permuted.at(t, e) = scores.at(t, order[static_cast<size_t>(e)]);
  }
  auto found = lists(choose(selector, permuted).rows);
  for (auto& ids : found) {
    for (int32_t& e : ids) e = static_cast<int32_t>(order[static_cast<size_t>(e)]);
    std::ranges::sort(ids);
  }
  EXPECT_EQ(found, lists(choose(selector, scores).rows));
}

inline void expect_ties_to_the_lower_id(const Selector& selector, int64_t num_experts) {
  if (draws(selector)) return;
  const Table scores{.values = std::vector<float>(static_cast<size_t>(3 * num_experts), 0.25f),
                     .num_tokens = 3,
                     .num_experts = num_experts};
  for (const auto& ids : lists(choose(selector, scores).rows)) {
    for (size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(ids[i], static_cast<int32_t>(i)) << "of equal experts the first are chosen";
  }
}

inline void expect_one_draw_whatever_the_batch(const Selector& selector, int64_t num_experts) {
  std::set<uint64_t> positions;
  for (int64_t num_tokens : {0, 1, 100}) {
    RandomStream random(1, "stream"), stream(2, "stream");
    selector.choose(random_logits(num_tokens, num_experts, random), {.layer = 0, .random = &stream});
    positions.insert(stream.position());
  }
  EXPECT_EQ(positions.size(), 1u);
}

/// All of the above for one selector.
inline void expect_selector_properties(const std::string& name, const Selector& selector, int64_t num_experts,
                                       int64_t num_groups = 1) {
  SCOPED_TRACE(name + ", " + std::to_string(num_experts) + " experts");
  expect_valid_choices(selector, num_experts);
  expect_nothing_from_an_empty_batch(selector, num_experts);
  expect_errors_for_bad_scores(selector, num_experts);
  expect_each_row_by_itself(selector, num_experts);
  expect_to_follow_permuted_experts(selector, num_experts, num_groups);
  expect_ties_to_the_lower_id(selector, num_experts);
  expect_one_draw_whatever_the_batch(selector, num_experts);
}

/// The same for a selector as it would stand in the registry, with its defaults.
inline void expect_selector_properties(const Registry<SelectorFactory>::Entry& entry) {
  EXPECT_FALSE(entry.spec.summary.empty() || entry.spec.source.empty() || entry.spec.formula.empty())
      << entry.spec.name << " says what it does and where it comes from";
  const auto selector = entry.make(Values(entry.spec.parameters, {}, entry.spec.name));
  for (int64_t num_experts : {1, 4, 64}) expect_selector_properties(entry.spec.name, *selector, num_experts);
}

}  // namespace gatewright::choice

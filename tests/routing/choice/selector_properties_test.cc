// What holds for every registered selector, with several settings each, and for every decorator around every
// selector. The lists are the registries': a selector that is added is tested without a line here.
#include "tests/routing/choice/selector_properties.h"

#include <gtest/gtest.h>

namespace gatewright::choice {
namespace {

constexpr int64_t kExperts[] = {1, 4, 8, 64};

std::vector<std::pair<std::string, Given>> decorator_settings(int64_t num_experts) {
  std::vector<std::pair<std::string, Given>> result;
  for (const std::string& name : selector_decorators().names()) {
    if (name == "force") {
      if (num_experts > 3) result.push_back({name, {{"experts", std::vector<int64_t>{3, 1}}}});
      result.push_back({name, {{"experts", std::vector<int64_t>{0}}, {"add", true}}});
    } else if (name == "capacity") {
      for (const char* overflow : {"drop_by_position", "drop_by_score", "reroute"})
        result.push_back({name, {{"factor", 0.8}, {"overflow", std::string(overflow)}}});
    } else if (name != "ranked_capacity" || num_experts >= 2) {
      result.push_back({name, {}});
    }
  }
  return result;
}

int64_t num_groups(const Case& c) {
  const Values values(selectors().at(c.name).spec.parameters, c.given, c.name);
  return values.all().contains("num_groups") ? values.integer("num_groups") : 1;
}

TEST(EverySelector, IsRegisteredUnderTheNameThatRecipesUse) {
  for (const char* name : {"top_k", "top_p", "min_p", "threshold", "relu", "expert_choice",
                           "group_limited_top_k", "random", "all", "scheduled_top_k", "stochastic"})
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

TEST(EverySelector, KeepsTheRules) {
  for (int64_t num_experts : kExperts) {
    for (const Case& c : all_cases(num_experts))
      expect_selector_properties(c.text(), *c.make(), num_experts, num_groups(c));
  }
}

TEST(EverySelector, KeepsTheRulesInsideEveryDecorator) {
  for (int64_t num_experts : kExperts) {
    for (const Case& c : all_cases(num_experts)) {
      for (const auto& [name, given] : decorator_settings(num_experts)) {
        SCOPED_TRACE(name + " around " + c.text());
        const auto& entry = selector_decorators().at(name);
        const auto selector = entry.make(c.make(), Values(entry.spec.parameters, given, name));
        expect_valid_choices(*selector, num_experts);
        expect_nothing_from_an_empty_batch(*selector, num_experts);
        expect_errors_for_bad_scores(*selector, num_experts);
        expect_each_row_by_itself(*selector, num_experts);
        expect_one_draw_whatever_the_batch(*selector, num_experts);
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
    if (draws(*selector) || !selector->looks_at_one_row() || num_groups(c) > 1) continue;
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

}  // namespace
}  // namespace gatewright::choice

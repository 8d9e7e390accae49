#include "gatewright/routing/choice/pairs.h"

#include <gtest/gtest.h>

#include <cmath>

#include "random_choice.h"

namespace gatewright::choice {
namespace {

TEST(Pairs, AreTheSameThingByTokenAndByExpert) {
  const Rows rows{.row_begin = {0, 2, 2, 3},
                  .expert = {0, 2, 2}};  // token 0: 0, 2; token 1: none; token 2: 2
  const Pairs pairs = by_expert(rows, 4);
  EXPECT_EQ(pairs.num_tokens, 3);
  EXPECT_EQ(pairs.expert_begin, (std::vector<int64_t>{0, 1, 1, 3, 3}));
  EXPECT_EQ(pairs.token, (std::vector<int64_t>{0, 0, 2}));
  EXPECT_EQ(by_token(pairs).row_begin, rows.row_begin);
  EXPECT_EQ(by_token(pairs).expert, rows.expert);
}

TEST(Pairs, ComeBackUnchangedFromAnyChoice) {
  RandomStream random(1, "pairs");
  for (int repeat = 0; repeat < 100; ++repeat) {
    const int64_t num_tokens = static_cast<int64_t>(random.below(20)),
                  num_experts = 1 + static_cast<int64_t>(random.below(9));
    Rows rows;
    for (int64_t t = 0; t < num_tokens; ++t) {
      for (int32_t e = 0; e < num_experts; ++e) {
        if (random.uniform() < 0.3f) rows.expert.push_back(e);
      }
      rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
    }
    const Pairs pairs = by_expert(rows, num_experts);
    EXPECT_NO_THROW(validate(pairs, "test"));
    EXPECT_EQ(by_token(pairs).row_begin, rows.row_begin);
    EXPECT_EQ(by_token(pairs).expert, rows.expert);
  }
}

TEST(Pairs, OfNoTokensHaveEmptyExperts) {
  const Pairs pairs = by_expert(Rows{}, 3);
  EXPECT_EQ(pairs.expert_begin, (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(by_token(pairs).num_tokens(), 0);
}

TEST(Pairs, OfExpertsOrTokensThatDoNotExistAreErrors) {
  EXPECT_EQ(error_of([] {
              by_expert({.row_begin = {0, 1}, .expert = {4}}, 4);
            }),
            "[pairs] expert 4 was chosen, the experts are 0 to 3");
  EXPECT_EQ(error_of([] {
              by_expert({.row_begin = {0, 1}, .expert = {-1}}, 4);
            }),
            "[pairs] expert -1 was chosen, the experts are 0 to 3");
  EXPECT_EQ(error_of([] {
              by_token({.num_tokens = 2, .expert_begin = {0, 1}, .token = {2}});
            }),
            "[pairs] token 2 was chosen, the tokens are 0 to 1");
}

TEST(ValidatePairs, NamesWhatIsWrong) {
  const auto problem = [](Pairs pairs) { return error_of([&] { validate(pairs, "mine"); }); };
  validate(Pairs{.num_tokens = 3, .expert_begin = {0, 2, 3}, .token = {0, 2, 1}}, "mine");  // nothing
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 2}, .token = {0, 2, 1}}),
            "[mine] expert_begin must run from 0 to the 3 pairs");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {}, .token = {}}),
            "[mine] expert_begin must run from 0 to the 0 pairs");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 2, 1, 2}, .token = {0, 1}}),
            "[mine] expert_begin falls at expert 1");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 5, 2}, .token = {0, 1}}),
            "[mine] expert_begin falls at expert 0");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 2}, .token = {0, 3}}),
            "[mine] token 3 of expert 0, there are 3 tokens");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 2}, .token = {1, 1}}),
            "[mine] the tokens of expert 0 do not ascend at 1");
  EXPECT_EQ(problem({.num_tokens = 3, .expert_begin = {0, 2}, .token = {1, 0}}),
            "[mine] the tokens of expert 0 do not ascend at 0");
}

TEST(Margins, AreTheDistanceToADifferentChoice) {
  const Table scores = table({0.5f, 0.25f, 0.125f, 0.125f,  //
                              0.5f, 0.25f, 0.125f, 0.125f,  //
                              0.5f, 0.25f, 0.125f, 0.125f,  //
                              0.5f, 0.25f, kMask, kMask},
                             4);
  const Rows rows{.row_begin = {0, 2, 3, 3, 5}, .expert = {0, 1, 2, 0, 1}};
  const std::vector<float> found = margins(scores, rows);
  EXPECT_EQ(found[0], 0.125f) << "0.25 chosen, 0.125 not";
  EXPECT_EQ(found[1], -0.375f) << "a forced choice: 0.125 chosen, 0.5 not";
  EXPECT_TRUE(std::isnan(found[2])) << "nothing was chosen";
  EXPECT_TRUE(std::isnan(found[3])) << "all that could be was chosen";
}

}  // namespace
}  // namespace gatewright::choice

#include "gatewright/routing/choice/selectors/scheduled_top_k.h"

#include <gtest/gtest.h>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/choice/weights.h"
#include "tests/routing/choice/random_choice.h"

namespace gatewright::choice {
namespace {

int64_t linear(int64_t step, int64_t num_steps = 1000) {
  return scheduled_k(KSchedule::kLinearIncrease, step, num_steps, 8, 16);
}

TEST(ScheduledK, GrowsLinearlyAndRoundsHalfToEven) {
  EXPECT_EQ(linear(0), 8);
  EXPECT_EQ(linear(62), 8) << "0.496 rounds to 0";
  EXPECT_EQ(linear(63), 9);
  EXPECT_EQ(linear(500), 12);
  EXPECT_EQ(linear(1000), 16);
  EXPECT_EQ(linear(1001), 16);
  EXPECT_EQ(linear(1, 16), 8) << "round(0.5) = 0";
  EXPECT_EQ(linear(3, 16), 10) << "round(1.5) = 2";
}

TEST(ScheduledK, HasItsEndsAtTheEndsOfTheTraining) {
  for (const auto& [name, first, last] :
       std::vector<std::tuple<std::string, int64_t, int64_t>>{{"linear_increase", 2, 16},
                                                              {"linear_decrease", 16, 2},
                                                              {"cosine_increase", 2, 16},
                                                              {"cosine_decrease", 16, 2},
                                                              {"multi_step_increase", 2, 16},
                                                              {"multi_step_decrease", 16, 2}}) {
    const KSchedule schedule = parse_k_schedule(name);
    EXPECT_EQ(scheduled_k(schedule, 0, 1000, 2, 16), first) << name;
    EXPECT_EQ(scheduled_k(schedule, 1000, 1000, 2, 16), last) << name;
    for (int64_t s = 0; s < 1000; ++s) {
      const int64_t change =
          scheduled_k(schedule, s + 1, 1000, 2, 16) - scheduled_k(schedule, s, 1000, 2, 16);
      EXPECT_GE(first < last ? change : -change, 0) << name << " step " << s;
    }
  }
}

TEST(ScheduledK, IsComputedByHand) {
  // 14 cos(pi / 4) = 9.899, 14 x 0.99^100 = 5.124
  EXPECT_EQ(scheduled_k(KSchedule::kCosineIncrease, 500, 1000, 2, 16), 6);
  EXPECT_EQ(scheduled_k(KSchedule::kCosineDecrease, 500, 1000, 2, 16), 12);
  EXPECT_EQ(scheduled_k(KSchedule::kExpIncrease, 0, 900, 2, 16), 2);
  EXPECT_EQ(scheduled_k(KSchedule::kExpIncrease, 302, 900, 2, 16), 11)
      << "floor(302 / floor(900 / 300)) = 100";
  EXPECT_EQ(scheduled_k(KSchedule::kMultiStepIncrease, 399, 1000, 1, 16), 2);
  EXPECT_EQ(scheduled_k(KSchedule::kMultiStepIncrease, 400, 1000, 1, 16), 4);
  EXPECT_EQ(scheduled_k(KSchedule::kMultiStepDecrease, 400, 1000, 1, 16), 4);
  EXPECT_EQ(scheduled_k(KSchedule::kMultiStepIncrease, 0, 1000, 3, 6), 3) << "clipped";
}

TEST(ScheduledTopK, WeighsTheChosenByASoftmaxOverThem) {
  const Table logits = table({1, 3, 3, 0}, 4);
  const WeightRule after_choice{.weighting = Weighting::kSoftmaxChosen};
  const auto chosen = [&](int64_t k) {
    return ScheduledTopK({.k_inference = k}).choose(logits, ChoiceContext{});
  };
  EXPECT_EQ(lists(chosen(2).rows), (std::vector<std::vector<int32_t>>{{1, 2}}));
  for (float w : weights(after_choice, logits, chosen(2))) EXPECT_FLOAT_EQ(w, 0.5f);
  const std::vector<float> all = weights(after_choice, logits, chosen(4)),
                           softmax = activated(Activation::kSoftmax, logits).values;
  float sum = 0;
  for (size_t e = 0; e < 4; ++e) {
    EXPECT_FLOAT_EQ(all[e], softmax[e]);
    sum += all[e];
  }
  EXPECT_FLOAT_EQ(sum, 1);
  for (float logit : {-80.0f, 0.0f, 80.0f}) {
    const Table one = table({logit}, 1);
    EXPECT_EQ(weights(after_choice, one, ScheduledTopK({}).choose(one, ChoiceContext{})),
              std::vector<float>{1});
  }
}

TEST(ScheduledTopK, KeepsWhatASmallerKChose) {
  RandomStream random(1, "scores");
  const Table logits = random_logits(50, 8, random);
  for (int64_t k = 1; k < 8; ++k) {
    const auto few = lists(ScheduledTopK({.k_inference = k}).choose(logits, ChoiceContext{}).rows);
    const auto more = lists(ScheduledTopK({.k_inference = k + 1}).choose(logits, ChoiceContext{}).rows);
    for (size_t t = 0; t < few.size(); ++t) {
      EXPECT_EQ(std::ssize(few[t]), k);
      EXPECT_TRUE(std::ranges::includes(more[t], few[t])) << t;
    }
  }
}

TEST(ScheduledTopK, FollowsTheScheduleInTrainingOnly) {
  const ScheduledTopK selector({});
  EXPECT_EQ(selector.k(16, {.training = true, .step = 0, .num_steps = 100}), 8) << "half of the experts";
  EXPECT_EQ(selector.k(16, {.training = true, .step = 100, .num_steps = 100}), 16);
  EXPECT_EQ(selector.k(16, {.training = false, .step = 0, .num_steps = 100}), 16) << "all in use";
  EXPECT_EQ(selector.k(1, {.training = true, .step = 0, .num_steps = 100}), 1);
  EXPECT_EQ(ScheduledTopK({.k_inference = 3}).k(16, {}), 3);
}

TEST(ScheduledTopK, RefusesNumbersThatDoNotFit) {
  EXPECT_EQ(error_of([] { ScheduledTopK({.k_max = 9}).check_experts(8); }),
            "[scheduled_top_k] k_max = 9 of 8 experts; choose at most 8");
  EXPECT_EQ(error_of([] { ScheduledTopK({.k_inference = 9}).check_experts(8); }),
            "[scheduled_top_k] k_inference = 9 of 8 experts; choose at most 8");
  EXPECT_EQ(error_of([] { ScheduledTopK({.k_min = 5, .k_max = 4}).check_experts(8); }),
            "[scheduled_top_k] k_min = 5 is more than k_max = 4; choose at most that");
  EXPECT_EQ(
      error_of([] { scheduled_k(KSchedule::kExpIncrease, 0, 299, 1, 2); }),
      "[scheduled_top_k] exp_increase needs at least 300 training steps, got 299; use linear_increase for "
      "a shorter training");
  EXPECT_EQ(error_of([] { parse_k_schedule("linear_increas"); }).substr(0, 39),
            "there is no schedule of k 'linear_incre");
}

}  // namespace
}  // namespace gatewright::choice

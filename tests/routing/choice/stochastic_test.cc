#include "gatewright/routing/choice/selectors/stochastic.h"

#include <gtest/gtest.h>

#include "tests/routing/choice/random_choice.h"

namespace gatewright::choice {
namespace {

Table zeros(int64_t num_tokens, int64_t num_experts) {
  return {.values = std::vector<float>(static_cast<size_t>(num_tokens * num_experts)),
          .num_tokens = num_tokens,
          .num_experts = num_experts};
}

std::vector<int32_t> experts_of(const Selection& selection) { return selection.rows.expert; }

TEST(StochasticSelector, DrawsOneExpertForTheWholeBatchInTraining) {
  const StochasticSelector selector(DrawLevel::kToken, 0);
  RandomStream random(1, "draws");
  std::set<int32_t> seen;
  for (int i = 0; i < 60; ++i) {
    const auto experts =
        experts_of(selector.choose(zeros(6, 4), {.random = &random, .training = true, .num_sequences = 2}));
    ASSERT_EQ(experts.size(), 6u);
    EXPECT_EQ(std::set<int32_t>(experts.begin(), experts.end()).size(), 1u);
    seen.insert(experts[0]);
  }
  EXPECT_EQ(seen.size(), 4u) << "anew in every pass";
}

TEST(StochasticSelector, DrawsEveryExpertEquallyOften) {
  const StochasticSelector selector(DrawLevel::kToken, 0);
  RandomStream random(2, "draws");
  std::vector<double> share(4);
  for (int i = 0; i < 10'000; ++i) {
    const auto experts = experts_of(selector.choose(zeros(1, 4), {.random = &random, .training = true}));
    share[static_cast<size_t>(experts[0])] += 1e-4;
  }
  for (double s : share) EXPECT_NEAR(s, 0.25, 0.02);
}

TEST(StochasticSelector, DrawsForEachSentenceOrToken) {
  RandomStream random(3, "draws");
  const ChoiceContext context{.random = &random, .num_sequences = 40};
  const auto by_sentence =
      experts_of(StochasticSelector(DrawLevel::kSentence, 0).choose(zeros(200, 4), context));
  std::set<int32_t> of_sentences;
  for (size_t s = 0; s < 40; ++s) {
    const auto first = by_sentence.begin() + static_cast<std::ptrdiff_t>(5 * s);
    EXPECT_EQ(std::set<int32_t>(first, first + 5).size(), 1u) << "one expert a sentence";
    of_sentences.insert(*first);
  }
  EXPECT_EQ(of_sentences.size(), 4u) << "sentences need not agree";
  const auto by_token = experts_of(StochasticSelector(DrawLevel::kToken, 0).choose(zeros(200, 4), context));
  EXPECT_EQ(std::set<int32_t>(by_token.begin(), by_token.begin() + 40).size(), 4u);
}

TEST(StochasticSelector, TakesAllOrAlwaysTheSameWithoutADraw) {
  EXPECT_EQ(experts_of(StochasticSelector(DrawLevel::kEnsemble, 0).choose(zeros(2, 3), {})),
            (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(experts_of(StochasticSelector(DrawLevel::kFixed, 2).choose(zeros(3, 3), {})),
            (std::vector<int32_t>{2, 2, 2}));
}

TEST(StochasticSelector, OfOneExpertTakesIt) {
  RandomStream random(4, "draws");
  EXPECT_EQ(experts_of(StochasticSelector(DrawLevel::kSentence, 0)
                           .choose(zeros(3, 1), {.random = &random, .training = true})),
            (std::vector<int32_t>{0, 0, 0}));
}

TEST(StochasticSelector, RefusesWhatItCannotDraw) {
  const StochasticSelector sentence(DrawLevel::kSentence, 0);
  RandomStream random(5, "draws");
  EXPECT_EQ(
      error_of([&] { sentence.choose(zeros(5, 2), {.layer = 3, .random = &random, .num_sequences = 2}); }),
      "layer 3: 5 tokens are not 2 sequences of equal length");
  EXPECT_EQ(error_of([&] { sentence.choose(zeros(5, 2), {.layer = 3}); }),
            "layer 3: the selector stochastic needs a random stream");
  EXPECT_EQ(error_of([] { StochasticSelector(DrawLevel::kFixed, 4).check_experts(4); }),
            "[stochastic] there is no expert 4; the experts are 0 to 3");
}

}  // namespace
}  // namespace gatewright::choice

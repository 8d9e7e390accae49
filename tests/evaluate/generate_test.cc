#include "gatewright/evaluate/generate.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5};

TEST(Generate, WithoutTemperatureTakesTheMostLikelyTokenOfTheWholeForward) {
  Decoder model(tiny_spec(), 1);
  const auto tokens = generate(model, kPrompt, {.max_tokens = 12, .temperature = 0});
  ASSERT_EQ(tokens.size(), 12u);
  std::vector<int64_t> text(kPrompt.begin(), kPrompt.end());
  for (const int32_t token : tokens) {
    const Tensor logits = logits_of(model, {.tokens = at::tensor(text).unsqueeze(0)})[0][-1];
    EXPECT_EQ(token, logits.argmax().item<int64_t>());
    text.push_back(token);
  }
  EXPECT_EQ(generate(model, kPrompt, {.max_tokens = 12, .temperature = 0, .seed = 9}), tokens)
      << "no seed matters when nothing is drawn";
}

TEST(Generate, TheSeedDecidesTheDraws) {
  Decoder model(tiny_spec(), 1);
  const auto with = [&](uint64_t seed) {
    return generate(model, kPrompt, {.max_tokens = 30, .temperature = 2, .seed = seed});
  };
  EXPECT_EQ(with(1), with(1));
  EXPECT_NE(with(1), with(2));
}

TEST(Generate, StopsBeforeTheEndOfTheText) {
  Decoder model(tiny_spec(), 1);
  const auto tokens = generate(model, kPrompt, {.max_tokens = 30, .temperature = 2, .seed = 4});
  const int32_t stop = tokens[7];
  const auto stopped =
      generate(model, kPrompt, {.max_tokens = 30, .temperature = 2, .seed = 4, .stop = stop});
  const auto end = std::find(tokens.begin(), tokens.end(), stop);
  EXPECT_EQ(stopped, std::vector<int32_t>(tokens.begin(), end));
}

TEST(Generate, ShowsEachTokenAndEndsWhenTold) {
  Decoder model(tiny_spec(), 1);
  std::vector<int32_t> seen;
  const auto tokens = generate(model, kPrompt, {.max_tokens = 30}, [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 4;
  });
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_EQ(tokens, seen);
}

TEST(Generate, RefusesAnEmptyPromptAndWritesNothingWhenNothingIsAsked) {
  Decoder model(tiny_spec(), 1);
  EXPECT_THAT(error_of([&] { generate(model, {}, {}); }), HasSubstr("the prompt has no tokens"));
  EXPECT_THAT(generate(model, kPrompt, {.max_tokens = 0}), IsEmpty());
}

// --- one draw ---

/// Shares of each token over many draws.
std::vector<double> shares(const std::vector<float>& logits, const GenerateOptions& options) {
  constexpr int kDraws = 40'000;
  RandomStream random(1, "draws");
  std::vector<double> result(logits.size());
  for (int i = 0; i < kDraws; ++i)
    result[static_cast<size_t>(sample(logits, options, random))] += 1.0 / kDraws;
  return result;
}

void expect_shares(const std::vector<double>& found, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double tolerance = expected[i] == 0 ? 0 : 0.012;  // five standard deviations
    EXPECT_NEAR(found[i], expected[i], tolerance) << "token " << i;
  }
}

/// Probabilities 0.1, 0.4, 0.2, 0.3.
const std::vector<float> kLogits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

TEST(Sample, DrawsWithTheSoftmaxsProbabilities) {
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1}), {0.1, 0.4, 0.2, 0.3});
  // Temperature 1/2 squares them: 1, 16, 4, 9 of 30.
  expect_shares(shares(kLogits, {.temperature = 0.5, .top_p = 1}), {1 / 30.0, 16 / 30.0, 4 / 30.0, 9 / 30.0});
}

TEST(Sample, TopKDrawsFromTheMostLikely) {
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1, .top_k = 2}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1, .top_k = 1}), {0, 1, 0, 0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1, .top_k = 99}), {0.1, 0.4, 0.2, 0.3});
}

TEST(Sample, TopPDrawsFromTheSmallestSetThatSumsToMore) {
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 0.65}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 0.75}), {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 0}), {0, 1, 0, 0});
}

TEST(Sample, TiesGoToTheLowerIdWithoutTemperature) {
  RandomStream random(1, "draws");
  EXPECT_EQ(sample(std::vector<float>{0, 2, 2, 1}, {.temperature = 0}, random), 1);
  EXPECT_EQ(sample(std::vector<float>{-5}, {.temperature = 0}, random), 0);
}

TEST(Sample, TokensThatAreMaskedAreNeverDrawn) {
  const float never = -std::numeric_limits<float>::infinity();
  expect_shares(shares({never, 0, never, 0}, {.temperature = 1, .top_p = 1}), {0, 0.5, 0, 0.5});
}

}  // namespace
}  // namespace gatewright

#include "gatewright/evaluate/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

/// Shares of each token over many draws.
std::vector<double> shares(const std::vector<float>& logits, const SamplingOptions& options) {
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
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 2, .top_p = 1}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 1, .top_p = 1}), {0, 1, 0, 0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_k = 99, .top_p = 1}), {0.1, 0.4, 0.2, 0.3});
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

TEST(Sample, MinPDrawsFromTokensNearTheMostLikely) {
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1, .min_p = 0.45}),
                {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  expect_shares(shares(kLogits, {.temperature = 1, .top_p = 1, .min_p = 1}), {0, 1, 0, 0});
  // Of what top-k left, and after the temperature: at 1/2 the shares of the largest are 1/16, 1, 1/4 and
  // 9/16.
  expect_shares(shares(kLogits, {.temperature = 0.5, .top_k = 3, .top_p = 1, .min_p = 0.3}),
                {0, 0.64, 0, 0.36});
}

std::vector<float> random_logits(RandomStream& random, size_t size) {
  std::vector<float> logits(size);
  for (float& x : logits) x = std::round(8 * random.normal()) / 2;  // with ties
  return logits;
}

/// The ids that the rules leave, by their definitions.
std::vector<int32_t> left_by_definition(const std::vector<float>& logits, const SamplingOptions& options) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto probability = [&](int32_t id) {
    return std::exp(logits[static_cast<size_t>(id)] / options.temperature);
  };
  std::ranges::stable_sort(order, std::greater{}, probability);
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  double all = 0, kept = 0;
  for (const int32_t id : order) all += probability(id);
  size_t size = 0;
  while (size < order.size() && kept <= options.top_p * all) kept += probability(order[size++]);
  order.resize(size);
  const double most = probability(order[0]);
  std::erase_if(order, [&](int32_t id) { return probability(id) < options.min_p * most; });
  std::ranges::sort(order);
  return order;
}

TEST(Sample, DrawsExactlyFromWhatTheRulesLeave) {
  RandomStream random(3, "properties");
  for (int round = 0; round < 300; ++round) {
    const std::vector<float> logits = random_logits(random, 1 + random.below(200));
    const SamplingOptions options{.temperature = 0.5 + 4 * random.uniform_double(),
                                  .top_k = static_cast<int64_t>(random.below(40)),
                                  .top_p = random.uniform_double() * 0.99,
                                  .min_p = 0.3 * random.uniform_double()};
    const std::vector<int32_t> allowed = left_by_definition(logits, options);
    for (int draw = 0; draw < 20; ++draw)
      EXPECT_TRUE(std::ranges::binary_search(allowed, sample(logits, options, random)));
  }
}

TEST(Sample, TheSameSeedDrawsTheSame) {
  RandomStream values(1, "values"), first(7, "draws"), second(7, "draws");
  const std::vector<float> logits = random_logits(values, 500);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(sample(logits, {.temperature = 2}, first), sample(logits, {.temperature = 2}, second));
}

TEST(Sample, RefusesWhatCannotBeDrawnFrom) {
  RandomStream random(1, "draws");
  const float never = -std::numeric_limits<float>::infinity(), nan = std::nanf("");
  for (const double temperature : {0.0, 1.0}) {
    const auto draw = [&](const std::vector<float>& logits) {
      return sample(logits, {.temperature = temperature}, random);
    };
    for (const std::vector<float>& logits : {std::vector<float>{}, {never, never}, {nan}, {1, -never}})
      EXPECT_THAT(error_of([&] { draw(logits); }), HasSubstr("the logits are not numbers"));
    EXPECT_EQ(draw({nan, 1, never}), 1);
  }
  const auto error = [&](const SamplingOptions& options) {
    return error_of([&] { sample(kLogits, options, random); });
  };
  EXPECT_EQ(error({.temperature = -1}), "the temperature must be 0 to 100, not -1");
  EXPECT_EQ(error({.top_p = 1.7}), "top-p must be 0 to 1, not 1.7");
  EXPECT_EQ(error({.min_p = std::nan("")}), "min-p must be 0 to 1, not nan");
  EXPECT_EQ(error({.top_k = -3}), "top-k must not be negative, it is -3");
}

}  // namespace
}  // namespace gatewright

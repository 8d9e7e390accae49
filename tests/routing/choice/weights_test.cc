// Probabilities and combination weights on plain rows, and their derivatives against finite differences.
#include "gatewright/routing/choice/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "random_choice.h"

namespace gatewright::choice {
namespace {

constexpr Weighting kWeightings[] = {Weighting::kAsIs, Weighting::kRenormalised, Weighting::kSoftmaxChosen,
                                     Weighting::kEqual};

std::vector<float> activate_values(Activation activation, const std::vector<float>& logits) {
  std::vector<float> result(logits.size());
  activate_row(activation, logits, result);
  return result;
}

TEST(Activation, IsComputedByHand) {
  const float ln2 = std::log(2.0f);
  const auto softmax = activate_values(Activation::kSoftmax, {ln2, 0, 0});
  EXPECT_FLOAT_EQ(softmax[0], 0.5f);
  EXPECT_FLOAT_EQ(softmax[1], 0.25f);
  const auto sigmoid = activate_values(Activation::kSigmoid, {0, ln2, -200, 200});
  EXPECT_FLOAT_EQ(sigmoid[0], 0.5f);
  EXPECT_FLOAT_EQ(sigmoid[1], 2.0f / 3);
  EXPECT_FLOAT_EQ(sigmoid[2], 0);
  EXPECT_FLOAT_EQ(sigmoid[3], 1);
  EXPECT_EQ(activate_values(Activation::kIdentity, {3, -2}), (std::vector<float>{3, -2}));
}

TEST(Activation, GivesMaskedExpertsZero) {
  for (Activation a :
       {Activation::kSoftmax, Activation::kSigmoid, Activation::kIdentity, Activation::kReluRms}) {
    EXPECT_EQ(activate_values(a, {1, kMask})[1], 0);
    EXPECT_EQ(activate_values(a, {kMask, kMask}), (std::vector<float>{0, 0}));
  }
}

TEST(Activation, OfLargeLogitsDoesNotOverflow) {
  const auto p = activate_values(Activation::kSoftmax, {3e38f, -3e38f, 3e38f});
  EXPECT_EQ(p, (std::vector<float>{0.5f, 0, 0.5f}));
}

TEST(WeightRule, IsComputedByHand) {
  const Table probabilities = table({0.5f, 0.25f, 0.125f, 0.125f}, 4);
  const float ln3 = std::log(3.0f);
  const Table logits = table({ln3, 0, 0, 9}, 4);
  const Selection selection{.rows = {.row_begin = {0, 2}, .expert = {0, 1}}};
  const auto of = [&](Weighting w, double scale = 1) {
    return weights({.weighting = w, .scale = scale}, reads_logits(w) ? logits : probabilities, selection);
  };
  EXPECT_EQ(of(Weighting::kAsIs), (std::vector<float>{0.5f, 0.25f}));
  EXPECT_EQ(of(Weighting::kAsIs, 2.5), (std::vector<float>{1.25f, 0.625f}));
  EXPECT_FLOAT_EQ(of(Weighting::kRenormalised)[0], 2.0f / 3);
  EXPECT_FLOAT_EQ(of(Weighting::kRenormalised)[1], 1.0f / 3);
  EXPECT_FLOAT_EQ(of(Weighting::kSoftmaxChosen)[0], 0.75f);
  EXPECT_FLOAT_EQ(of(Weighting::kSoftmaxChosen, 2)[1], 0.5f);
  EXPECT_EQ(of(Weighting::kEqual), (std::vector<float>{0.5f, 0.5f}));
}

TEST(WeightRule, SumsOverWhatWasChosenBeforeCapacity) {
  const Table scores = table({0.5f, 0.25f, 0.25f}, 3);
  const Selection selection{.rows = {.row_begin = {0, 1}, .expert = {0}},
                            .before_capacity = Rows{.row_begin = {0, 2}, .expert = {0, 1}}};
  EXPECT_FLOAT_EQ(weights({.weighting = Weighting::kRenormalised}, scores, selection)[0], 2.0f / 3);
  EXPECT_FLOAT_EQ(weights({.weighting = Weighting::kEqual}, scores, selection)[0], 0.5f);
  const float rest = std::exp(-0.25f);
  EXPECT_FLOAT_EQ(weights({.weighting = Weighting::kSoftmaxChosen}, scores, selection)[0], 1 / (1 + rest));
}

TEST(WeightRule, GivesFiniteWeightsWhereAllProbabilitiesVanish) {
  const Table scores = table({0, 0, 0}, 3);
  const Selection selection{.rows = {.row_begin = {0, 2}, .expert = {0, 1}}};
  EXPECT_EQ(weights({.weighting = Weighting::kRenormalised}, scores, selection), (std::vector<float>{0, 0}));
}

TEST(WeightRule, NamesAreTheOnesThatRecipesUse) {
  EXPECT_EQ(weighting_names(),
            (std::vector<std::string>{"as_is", "renormalised", "softmax_chosen", "equal", "one"}));
  EXPECT_EQ(activation_names(), (std::vector<std::string>{"softmax", "sigmoid", "identity", "relu_rms"}));
  EXPECT_EQ(parse_weighting("softmax_chosen"), Weighting::kSoftmaxChosen);
  EXPECT_EQ(parse_activation("sigmoid"), Activation::kSigmoid);
  EXPECT_EQ(error_of([] { parse_weighting("renormalized"); }),
            "there is no weighting 'renormalized', did you mean 'renormalised'?");
  EXPECT_EQ(error_of([] { parse_activation("softmux"); }),
            "there is no activation 'softmux', did you mean 'softmax'?");
}

TEST(Weights, OfEverySelectorKeepTheirRule) {
  RandomStream random(1, "scores");
  const Table logits = random_logits(100, 8, random);
  const Table probabilities = activated(Activation::kSoftmax, logits);
  for (const Case& c : all_cases(8)) {
    const auto selector = c.make();
    const Selection selection = choose(*selector, compared(*selector, logits));
    for (Weighting weighting : kWeightings) {
      const Table& scores = reads_logits(weighting) ? logits : probabilities;
      const std::vector<float> w = weights({.weighting = weighting, .scale = 3}, scores, selection);
      ASSERT_EQ(w.size(), selection.rows.expert.size());
      for (int64_t t = 0; t < 100; ++t) {
        const auto ids = selection.rows.row(t);
        if (ids.empty()) continue;
        double sum = 0, mass = 0;
        for (size_t i = 0; i < ids.size(); ++i) {
          const float x = w[static_cast<size_t>(selection.rows.row_begin[static_cast<size_t>(t)]) + i];
          EXPECT_GT(x, 0) << c.text();
          sum += x;
          mass += probabilities.at(t, ids[i]);
        }
        EXPECT_NEAR(sum, weighting == Weighting::kAsIs ? 3 * mass : 3.0, 1e-5) << c.text();
      }
    }
  }
}

/// sum_i direction_i weight_i.
double directed(const WeightRule& rule, const Table& scores, const Selection& selection,
                const std::vector<float>& direction) {
  const std::vector<float> w = weights(rule, scores, selection);
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += static_cast<double>(w[i]) * direction[i];
  return sum;
}

TEST(WeightsGradient, IsTheSlopeOfTheWeights) {
  RandomStream random(2, "scores");
  const Table logits = random_logits(12, 6, random);
  const Table probabilities = activated(Activation::kSoftmax, logits);
  for (const char* decorated : {"", "capacity"}) {
    std::unique_ptr<Selector> selector = Case{"top_p", {{"top_p", 0.7}}}.make();
    if (*decorated != 0) {
      const auto& entry = selector_decorators().at(decorated);
      selector = entry.make(std::move(selector), Values(entry.spec.parameters, {{"factor", 0.7}}, decorated));
    }
    const Selection selection = choose(*selector, probabilities);
    std::vector<float> direction(selection.rows.expert.size());
    for (float& d : direction) d = random.normal();
    for (Weighting weighting : kWeightings) {
      const WeightRule rule{.weighting = weighting, .scale = 1.5};
      Table scores = reads_logits(weighting) ? logits : probabilities;
      std::vector<float> gradient(scores.values.size(), 0.0f);
      add_weights_gradient(rule, scores, selection, direction, gradient);
      for (size_t i = 0; i < scores.values.size(); ++i) {
        constexpr float kStep = 1e-2f;
        const float x = scores.values[i];
        const auto at = [&](float value) {
          scores.values[i] = value;
          const double y = directed(rule, scores, selection, direction);
          scores.values[i] = x;
          return y;
        };
        // Fourth order, so that a step that float32 resolves is small enough.
        const double slope =
            (8 * (at(x + kStep) - at(x - kStep)) - (at(x + 2 * kStep) - at(x - 2 * kStep))) / (12.0 * kStep);
        EXPECT_NEAR(gradient[i], slope, 2e-4 * (1 + std::abs(slope)))
            << weighting_names()[static_cast<size_t>(weighting)] << " " << decorated;
      }
    }
  }
}

}  // namespace
}  // namespace gatewright::choice

// The tensor path is held to the plain rows: for every registered selector the choice, and for every
// weighting and activation the weights. Gradients by finite differences in float64.
#include <gtest/gtest.h>

#include "gatewright/routing/weights.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

using choice::Activation;
using choice::Weighting;

constexpr Weighting kWeightings[] = {Weighting::kAsIs, Weighting::kRenormalised, Weighting::kSoftmaxChosen,
                                     Weighting::kEqual};
constexpr Activation kActivations[] = {Activation::kSoftmax, Activation::kSigmoid, Activation::kIdentity,
                                       Activation::kReluRms};

/// Scores with ties in every other table, masks, negative values as under a selection bias, and a masked row.
choice::Table awkward_scores(int64_t num_tokens, int64_t num_experts, bool ties, RandomStream& random) {
  choice::Table scores =
      choice::activated(Activation::kSoftmax, choice::random_logits(num_tokens, num_experts, random));
  for (float& x : scores.values) {
    if (ties) x = static_cast<float>(random.below(5)) * 0.125f;
    if (random.uniform() < 0.1f) x -= 0.25f;
    if (random.uniform() < 0.1f) x = choice::kMask;
  }
  if (num_tokens > 3) {
    for (int64_t e = 0; e < num_experts; ++e) scores.at(3, e) = choice::kMask;
  }
  return scores;
}

choice::Rows rows_of_mask(const Tensor& mask) {
  choice::Rows rows;
  for (int64_t t = 0; t < mask.size(0); ++t) {
    for (int64_t e = 0; e < mask.size(1); ++e) {
      if (mask[t][e].item<bool>()) rows.expert.push_back(static_cast<int32_t>(e));
    }
    rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
  }
  return rows;
}

TEST(TensorChoice, IsThePlainChoiceForEverySelector) {
  RandomStream random(1, "scores");
  int compared = 0;
  for (int64_t num_experts : {1, 4, 12}) {
    for (const choice::Case& c : choice::all_cases(num_experts)) {
      const auto& entry = choice::selectors().at(c.name);
      const TensorChoice choose = tensor_choice(c.name, Values(entry.spec.parameters, c.given, c.name));
      if (!choose) continue;
      ++compared;
      for (int64_t num_tokens : {0, 1, 40}) {
        for (bool ties : {false, true}) {
          const choice::Table scores = awkward_scores(num_tokens, num_experts, ties, random);
          const choice::Rows plain = choice::choose(*c.make(), scores).rows;
          const Tensor mask = choose(tensor(scores));
          ASSERT_EQ(mask.scalar_type(), at::kBool);
          EXPECT_EQ(choice::lists(rows_of_mask(mask)), choice::lists(plain)) << c.text();
        }
      }
    }
  }
  EXPECT_GT(compared, 40);
}

TEST(TensorChoice, ExistsForTheSelectorsOfTheHouseThatDoNotDraw) {
  for (const char* name :
       {"top_k", "top_p", "min_p", "threshold", "relu", "expert_choice", "group_limited_top_k", "all"})
    EXPECT_TRUE(tensor_choice(name, make_piece(choice::selectors(), name).values)) << name;
  EXPECT_FALSE(tensor_choice("random", make_piece(choice::selectors(), "random").values))
      << "its draws come from the host's stream";
}

TEST(TensorChoice, NeedsGroupsOfEqualSizeToo) {
  const auto choose =
      tensor_choice("group_limited_top_k", make_piece(choice::selectors(), "group_limited_top_k").values);
  EXPECT_EQ(error_of([&] {
              choose(at::zeros({2, 10}));
            }),
            "[group_limited_top_k] 10 experts cannot be cut into 4 equal groups");
}

TEST(Activate, IsThePlainActivation) {
  RandomStream random(2, "logits");
  choice::Table logits = choice::random_logits(50, 8, random);
  for (float& x : logits.values) {
    if (random.uniform() < 0.3f) x = choice::kMask;
  }
  for (int64_t e = 0; e < 8; ++e) logits.at(7, e) = choice::kMask;
  for (Activation a : kActivations)
    EXPECT_LT(difference(activate(a, tensor(logits)), tensor(choice::activated(a, logits))), 1e-6);
}

TEST(Activate, OfAMaskedRowHasNoGradientThere) {
  for (Activation a : kActivations) {
    const Tensor logits = tensor({choice::kMask, choice::kMask, 1, 2}, {2, 2});
    const auto weighted = [&](const Tensor& x) {
      return (activate(a, x) * tensor({1, 2, 3, 5}, {2, 2})).sum();
    };
    const std::vector<float> slope = to_floats(gradient(logits, weighted));
    EXPECT_EQ(slope[0], 0);
    EXPECT_EQ(slope[1], 0);
    EXPECT_NE(slope[3], 0);
  }
}

TEST(SelectionScores, AreMaskedAndBiased) {
  Scores scores{.logits = tensor({2, choice::kMask, -1, 0}, {2, 2}),
                .probabilities = tensor({0.9f, 0, 0.3f, 0.7f}, {2, 2})};
  EXPECT_EQ(to_floats(selection_scores(scores, choice::Reads::kProbabilities)),
            (std::vector<float>{0.9f, choice::kMask, 0.3f, 0.7f}));
  scores.selection_bias = tensor({1, 0.25f}, {2});
  EXPECT_EQ(to_floats(selection_scores(scores, choice::Reads::kLogits)),
            (std::vector<float>{3, choice::kMask, 0, 0.25f}));
}

/// A choice by top-p among `logits`, with a capacity limit when asked.
choice::Selection some_selection(const Tensor& probabilities, bool limited) {
  std::unique_ptr<choice::Selector> selector = choice::Case{"top_p", {{"top_p", 0.6}}}.make();
  if (limited) {
    const auto& entry = choice::selector_decorators().at("capacity");
    selector = entry.make(std::move(selector), Values(entry.spec.parameters, {{"factor", 0.7}}, "capacity"));
  }
  const Tensor plain = probabilities.to(at::kFloat).contiguous();
  return choice::choose(*selector, rows_of(plain));
}

TEST(Weigh, IsThePlainRuleByExpert) {
  RandomStream random(3, "logits");
  const Tensor logits = normals({30, 6}, random);
  for (Activation activation : kActivations) {
    const Scores scores = scores_of(logits, activation);
    for (bool limited : {false, true}) {
      const choice::Selection selection = some_selection(at::softmax(logits, -1), limited);
      for (Weighting weighting : kWeightings) {
        const choice::WeightRule rule{.weighting = weighting, .scale = 2.5};
        const Tensor& table = choice::reads_logits(weighting) ? scores.logits : scores.probabilities;
        const std::vector<float> plain = choice::weights(rule, rows_of(table), selection);
        const Assignment fast = weigh(rule, scores, selection);
        const Assignment slow = weigh_with_tensors(rule, scores, selection);
        EXPECT_NO_THROW(validate(fast, "weigh"));
        EXPECT_LT(difference(slow.weight, fast.weight), 1e-5);
        EXPECT_TRUE(at::equal(slow.token, fast.token) && at::equal(slow.expert_begin, fast.expert_begin));
        std::vector<int64_t> place;
        choice::by_expert(selection.rows, 6, &place);
        const std::vector<float> by_expert = to_floats(fast.weight);
        for (size_t i = 0; i < plain.size(); ++i)
          EXPECT_EQ(by_expert[static_cast<size_t>(place[i])], plain[i]);
      }
    }
  }
}

TEST(Weigh, HasTheGradientOfItsWeights) {
  RandomStream random(4, "logits");
  const Tensor logits = normals({10, 5}, random).to(at::kDouble);
  for (Activation activation : kActivations) {
    for (bool limited : {false, true}) {
      const choice::Selection selection = some_selection(at::softmax(logits, -1), limited);
      const Tensor direction = normals({static_cast<int64_t>(selection.rows.expert.size())}, random);
      for (Weighting weighting : kWeightings) {
        if (activation == Activation::kIdentity && weighting == Weighting::kRenormalised)
          continue;  // sums near 0
        const choice::WeightRule rule{.weighting = weighting, .scale = 1.5};
        const auto slow = [&](const Tensor& x) {
          return (weigh_with_tensors(rule, scores_of(x, activation), selection).weight * direction).sum();
        };
        const auto fast = [&](const Tensor& x) {
          return (weigh(rule, scores_of(x, activation), selection).weight * direction).sum();
        };
        const Tensor expected = slopes(logits, slow);
        if (weighting == Weighting::kEqual) {
          EXPECT_EQ(expected.abs().max().item<double>(), 0);
          continue;
        }
        EXPECT_LT(difference(gradient(logits, slow), expected), 1e-8);
        EXPECT_LT(difference(gradient(logits.to(at::kFloat), fast), expected), 1e-5);
      }
    }
  }
}

TEST(Weigh, OfEverySelectorCarriesItsGradientToTheScores) {
  RandomStream random(5, "logits");
  const Tensor logits = normals({40, 8}, random);
  for (const choice::Case& c : choice::all_cases(8)) {
    const Scores plain = scores_of(logits);
    const auto selector = c.make();
    const choice::Selection selection =
        choice::choose(*selector, rows_of(selection_scores(plain, selector->reads())));
    if (selection.rows.expert.empty()) continue;
    const auto of = [&](auto rule_of_weights) {
      return gradient(logits, [&](const Tensor& x) {
        const Tensor w = rule_of_weights(choice::WeightRule{.weighting = Weighting::kRenormalised},
                                         scores_of(x), selection)
                             .weight;
        return (w * at::arange(w.size(0), w.options())).sum() / static_cast<double>(w.size(0));
      });
    };
    EXPECT_LT(difference(of(weigh), of(weigh_with_tensors)), 1e-5) << c.text();
  }
}

TEST(Weigh, OfNoTokensIsEmpty) {
  for (Weighting weighting : kWeightings) {
    const Scores scores = scores_of(at::zeros({0, 4}));
    for (const Assignment& a : {weigh({.weighting = weighting}, scores, {}),
                                weigh_with_tensors({.weighting = weighting}, scores, {})}) {
      EXPECT_EQ(a.num_experts(), 4);
      EXPECT_EQ(a.num_pairs(), 0);
      EXPECT_NO_THROW(validate(a, "empty"));
    }
  }
}

}  // namespace
}  // namespace gatewright

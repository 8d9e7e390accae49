// The gate of Union of Experts (2025, arXiv 2503.02495): normalisations, data selection, expert selection for
// patches, weights of 1, as docs/methods/union-of-experts.md describes them.
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/scorers/patch.h"
#include "gatewright/routing/switch_gate.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

using choice::DataSelection;
using choice::DataSelectionOptions;
using choice::GateNormalisation;
using choice::TopK;
using testing::HasSubstr;

Tensor random_probabilities(int64_t sequences, int64_t length, int64_t experts, uint64_t seed = 1) {
  RandomStream random(seed, "probabilities");
  return at::softmax(normals({sequences, length, experts}, random), -1);
}

// --- the gate ---

TEST(SwitchGate, KeepsTheKLargestOfEachTokenOverTheirSum) {
  const Tensor gate = switch_gate(tensor({0.5f, 0.25f, 0.125f, 0.125f}, {1, 1, 4}), 2);
  EXPECT_LT(difference(gate, tensor({2.0f / 3, 1.0f / 3, 0, 0}, {1, 1, 4})), 1e-6);
  const Tensor half =
      switch_gate(tensor({0.25f, 0.25f, 0.25f, 0.25f}, {1, 1, 4}), 3, GateNormalisation::kExperts, 0.5);
  EXPECT_LT(difference(half, tensor({0.5f / 3, 0.5f / 3, 0.5f / 3, 0}, {1, 1, 4})), 1e-6)
      << "ties to the lower id";
}

TEST(SwitchGate, RowsHaveKPositiveEntriesThatSumToOne) {
  const Tensor gate = switch_gate(random_probabilities(3, 7, 6), 2);
  EXPECT_TRUE((gate > 0).sum(-1).eq(2).all().item<bool>());
  EXPECT_LT((gate.sum(-1) - 1).abs().max().item<double>(), 1e-6);
}

TEST(SwitchGate, OverTheBatchSumsToTheCapacityWhereASequenceKeptTheExpert) {
  for (const auto& [factor, expected] : {std::pair(1.0, 3.0), std::pair(0.7, 2.0), std::pair(2.0, 6.0)}) {
    const Tensor gate = switch_gate(random_probabilities(3, 7, 6), 2, GateNormalisation::kBatch, factor);
    EXPECT_TRUE((gate > 0).sum(-1).eq(2).all().item<bool>());
    const Tensor sums = gate.sum(0), kept = (gate > 0).any(0);
    EXPECT_LT(((sums - expected) * kept).abs().max().item<double>(), 1e-5) << "floor(factor x 3)";
    EXPECT_EQ((sums * kept.logical_not()).abs().max().item<double>(), 0);
  }
}

TEST(SwitchGate, RefusesWhatMakesNoSense) {
  EXPECT_EQ(error_of([] {
              switch_gate(at::ones({1, 2, 4}), 5);
            }),
            "[switch_gate] top_k = 5 of 4 experts; choose 1 to 4");
  EXPECT_THAT(error_of([] { switch_gate(at::ones({2, 4}), 1); }), HasSubstr("[B, T, E]"));
  EXPECT_THAT(error_of([] { choice::parse_gate_normalisation("tokens"); }), HasSubstr("experts or batch"));
}

// --- data selection ---

/// Tokens of each expert, by sequence: lists[b][e].
std::vector<std::vector<std::vector<int64_t>>> lists_of(const choice::Rows& rows, int64_t sequences,
                                                        int64_t experts) {
  std::vector<std::vector<std::vector<int64_t>>> lists(
      static_cast<size_t>(sequences), std::vector<std::vector<int64_t>>(static_cast<size_t>(experts)));
  const int64_t length = rows.num_tokens() / sequences;
  for (int64_t t = 0; t < rows.num_tokens(); ++t) {
    for (const int32_t e : rows.row(t))
      lists[static_cast<size_t>(t / length)][static_cast<size_t>(e)].push_back(t % length);
  }
  return lists;
}

choice::Selection selected(const choice::Table& scores, int64_t top_k, const DataSelectionOptions& options,
                           int64_t sequences) {
  return DataSelection(std::make_unique<TopK>(top_k), options).choose(scores, {.num_sequences = sequences});
}

TEST(DataSelection, FillsEveryListToTheLargestCount) {
  // Expert 0 is the first of three tokens, expert 1 of one.
  const choice::Table scores = choice::table({0.9f, 0.1f, 0.4f, 0.6f, 0.8f, 0.2f, 0.7f, 0.3f}, 2);
  const choice::Selection s = selected(scores, 1, {}, 1);
  const auto lists = lists_of(s.rows, 1, 2);
  EXPECT_EQ(lists[0][0], (std::vector<int64_t>{0, 2, 3}));
  EXPECT_EQ(lists[0][1], (std::vector<int64_t>{0, 1, 2})) << "token 1, then 0 and 2, which did not choose it";
  EXPECT_EQ(choice::lists(*s.before_capacity), (std::vector<std::vector<int32_t>>{{0}, {1}, {0}, {0}}));
}

TEST(DataSelection, TakesAShareOfEachSequenceByTheNormalisedScore) {
  const choice::Table scores =
      choice::table({0.5f, 0.4f, 0.1f, 0.4f, 0.2f, 0.4f, 0.1f, 0.6f, 0.3f, 0.0f, 0.1f, 0.9f}, 3);
  const auto lists = lists_of(selected(scores, 2, {.share = 0.25}, 1).rows, 1, 3);
  EXPECT_EQ(lists[0][0], (std::vector<int64_t>{0})) << "0.5 / 0.9 against 0.4 / 0.8";
  EXPECT_EQ(lists[0][1], (std::vector<int64_t>{2})) << "0.6 / 0.9";
  EXPECT_EQ(lists[0][2], (std::vector<int64_t>{3})) << "0.9 / 1.0";
}

TEST(DataSelection, ListsAscendWithoutRepeatsAndHaveOneLength) {
  RandomStream random(2, "scores");
  for (const double share : {0.0, 0.5}) {
    for (const GateNormalisation normalisation : {GateNormalisation::kExperts, GateNormalisation::kBatch}) {
      const choice::Table scores =
          choice::activated(choice::Activation::kSoftmax, choice::random_logits(3 * 9, 4, random));
      const choice::Selection s = selected(scores, 2, {.normalisation = normalisation, .share = share}, 3);
      const int64_t capacity = share > 0 ? 4 : choice::largest_count(*s.before_capacity, 3, 4);
      for (const auto& of_sequence : lists_of(s.rows, 3, 4)) {
        for (const std::vector<int64_t>& list : of_sequence) {
          EXPECT_EQ(std::ssize(list), capacity);
          EXPECT_EQ(std::ranges::adjacent_find(list, std::greater_equal{}), list.end());
        }
      }
    }
  }
}

TEST(DataSelection, TokenChoiceHasKTimesTokensInItsLists) {
  RandomStream random(3, "scores");
  const choice::Table scores = choice::random_logits(3 * 9, 4, random);
  const choice::Selection s = TopK(2).choose(scores, {.num_sequences = 3});
  size_t sum = 0;
  for (const auto& of_sequence : lists_of(s.rows, 3, 4)) {
    for (const std::vector<int64_t>& list : of_sequence) {
      sum += list.size();
      EXPECT_EQ(std::ranges::adjacent_find(list, std::greater_equal{}), list.end())
          << "ascending, no repeats";
    }
  }
  EXPECT_EQ(sum, 2u * 3 * 9);
}

TEST(DataSelection, LooksAtLaterTokens) {
  // The last token's score decides whether expert 0 serves the first.
  const auto first_is_served = [](float last) {
    const choice::Table scores = choice::table({0.6f, 0.4f, 0.3f, 0.7f, 0.2f, 0.8f, last, 1 - last}, 2);
    const auto lists = lists_of(selected(scores, 2, {.share = 0.25}, 1).rows, 1, 2);
    return lists[0][0] == std::vector<int64_t>{0};
  };
  EXPECT_TRUE(first_is_served(0.1f));
  EXPECT_FALSE(first_is_served(0.7f));
}

TEST(DataSelection, NeverTakesAMaskedExpert) {
  const choice::Table scores = choice::table({choice::kMask, 0.4f, choice::kMask, 0.6f, 0.8f, 0.2f}, 2);
  const auto lists = lists_of(selected(scores, 1, {}, 1).rows, 1, 2);
  EXPECT_EQ(lists[0][0], (std::vector<int64_t>{2}));
  EXPECT_EQ(lists[0][1], (std::vector<int64_t>{0, 1}));
}

TEST(DataSelection, RefusesWhatMakesNoSense) {
  const choice::Table one = choice::table({0.5f, 0.5f}, 2);
  EXPECT_THAT(error_of([&] { selected(one, 1, {.share = 0.5}, 1); }), HasSubstr("floor(0.5 x 1) = 0 tokens"));
  EXPECT_THAT(error_of([&] { selected(one, 1, {.share = 0.5}, 2); }),
              HasSubstr("1 tokens are not 2 sequences"));
  EXPECT_THAT(error_of([] { DataSelection(nullptr, {.share = 2}); }),
              HasSubstr("share must be in [0, 1], got 2"));
  RouterSpec spec = spec_of("linear", "relu");
  spec.decorators = {make_piece(choice::selector_decorators(), "data_selection")};
  ASSERT_EQ(router_problems(spec, 4).size(), 1u);
  EXPECT_THAT(router_problems(spec, 4)[0], HasSubstr("take selector = \"top_k\""));
  spec.selector = make_piece(choice::selectors(), "top_k");
  EXPECT_TRUE(router_problems(spec, 4).empty());
  EXPECT_THAT(router_warnings(spec, 4, 1)[0], HasSubstr("can't generate"));
}

// --- weights of 1 ---

/// Weights of a choice and the gradient of their directed sum with respect to the logits.
std::pair<Tensor, Tensor> weights_and_gradient(bool straight_through) {
  RandomStream random(4, "logits");
  const Tensor logits = leaf(normals({9, 4}, random));
  const Scores scores = scores_of(logits);
  const choice::Selection selection = TopK(2).choose(rows_of(scores.probabilities.detach().contiguous()), {});
  const choice::WeightRule rule{.weighting = choice::Weighting::kOne, .straight_through = straight_through};
  const Tensor direction = at::arange(18, at::kFloat);
  const Assignment fast = weigh(rule, scores, selection), slow = weigh_with_tensors(rule, scores, selection);
  EXPECT_TRUE(at::equal(fast.weight, slow.weight));
  if (!straight_through) {
    EXPECT_FALSE(fast.weight.requires_grad() || slow.weight.requires_grad());
    return {fast.weight, Tensor()};
  }
  const auto slope = [&](const Tensor& weight) {
    return torch::autograd::grad({(weight * direction).sum()}, {logits}, {}, /*retain_graph=*/true)[0];
  };
  const Tensor gradient = slope(fast.weight);
  EXPECT_LT(difference(gradient, slope(slow.weight)), 1e-6);
  // d (p / stopped p) = d ln p.
  const Tensor expected = torch::autograd::grad(
      {(make_assignment(choice::by_expert(selection.rows, 4), scores.probabilities.log()).weight * direction)
           .sum()},
      {logits})[0];
  EXPECT_LT(difference(gradient, expected), 1e-5);
  return {fast.weight, gradient};
}

TEST(WeightsOfOne, AreOneWithOrWithoutAGradient) {
  const auto [plain, nothing] = weights_and_gradient(false);
  const auto [learning, slope] = weights_and_gradient(true);
  EXPECT_TRUE(at::equal(plain, at::ones({18})));
  EXPECT_TRUE(at::equal(plain, learning)) << "bit for bit";
  EXPECT_GT(slope.abs().max().item<double>(), 0);
}

TEST(WeightsOfOne, AreFiniteWhereProbabilitiesVanish) {
  const Scores scores = scores_of(leaf(tensor({0, -300, 5, -300}, {2, 2})));
  const choice::Selection all{.rows = {.row_begin = {0, 2, 4}, .expert = {0, 1, 0, 1}}};
  const Assignment a = weigh({.weighting = choice::Weighting::kOne, .straight_through = true}, scores, all);
  EXPECT_TRUE(at::equal(a.weight.detach(), at::ones({4})));
  a.weight.sum().backward();
  EXPECT_TRUE(at::isfinite(scores.logits.grad()).all().item<bool>());
}

TEST(WeightsOfOne, OnlyTheyCanBeStraightThrough) {
  RouterSpec spec = spec_of("linear", "top_k");
  spec.weights = {.weighting = choice::Weighting::kAsIs, .straight_through = true};
  ASSERT_EQ(router_problems(spec, 4).size(), 1u);
  EXPECT_THAT(router_problems(spec, 4)[0], HasSubstr("set weights = \"one\""));
}

// --- one choice for a patch ---

TEST(PatchScorer, FillsTheLastPatchUpWithZeros) {
  const Tensor x = at::arange(1, 11, at::kFloat).view({1, 5, 2});
  EXPECT_TRUE(at::equal(flat_patches(x, 3), tensor({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0}, {1, 2, 6})));
  EXPECT_TRUE(at::equal(flat_patches(x, 1), x));
  EXPECT_THAT(error_of([&] { flat_patches(x, 0); }), HasSubstr("patch_length must be at least 1"));
}

TEST(PatchScorer, GivesTheTokensOfAPatchTheSameExperts) {
  RouterSpec spec = spec_of("patch_linear", "top_k", {{"top_k", int64_t{2}}});
  spec.scorer = make_piece(scorers(), "patch_linear", {{"patch_length", int64_t{3}}});
  RandomStream random(5, "router");
  Router router(spec, {.hidden_size = 4, .num_experts = 8}, random);
  const RoutingRecord record = router.route(normals({2 * 8, 4}, random) * 3, {.num_sequences = 2});
  const choice::Rows rows = choice::by_token(to_pairs(record.assignment));
  const auto experts = choice::lists(rows);
  bool differ = false;
  for (size_t t = 0; t < 16; ++t) {
    const size_t sequence = t / 8, first = sequence * 8 + t % 8 / 3 * 3;
    EXPECT_EQ(experts[t], experts[first]) << t;
    differ |= experts[t] != experts[0];
  }
  EXPECT_TRUE(differ) << "patches may differ";
  EXPECT_THAT(error_of([&] {
                router.route(at::zeros({1, 4}), {.layer = 2, .first_position = 5});
              }),
              HasSubstr("layer 2: the scorer patch_linear chooses for 3 tokens together"));
  EXPECT_EQ(router.route(at::zeros({0, 4}), {}).assignment.num_pairs(), 0);
}

TEST(PatchScorer, IsALinearMapOfTheWholePatch) {
  const auto scorer =
      make_scorer("patch_linear", {.hidden_size = 2, .num_experts = 3}, {{"patch_length", int64_t{2}}});
  ParameterList list;
  scorer->collect(list, "gate");
  const Tensor x = tensor({1, 2, 3, 4, 5, 6}, {3, 2});
  const Tensor logits = scorer->logits(x, {});
  const Tensor first = list[0].tensor.mv(tensor({1, 2, 3, 4}, {4})) + list[1].tensor;
  const Tensor second = list[0].tensor.mv(tensor({5, 6, 0, 0}, {4})) + list[1].tensor;
  EXPECT_LT(difference(logits, at::stack({first, first, second})), 1e-6);
  EXPECT_LE(list[0].tensor.abs().max().item<double>(), 0.5) << "1 / sqrt(2 x 2)";
}

}  // namespace
}  // namespace gatewright

// OpenMoE (Xue et al. 2024): a capacity by rank of choice, losses before capacity, and the analysis of what
// routing depends on, as docs/methods/openmoe.md describes them.
#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/evaluate/specialisation.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/balance/terms.h"
#include "gatewright/routing/choice/selectors/ranked_capacity.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

using choice::ranked_capacity;
using choice::RankedCapacity;
using choice::RankedCapacityOptions;
using choice::TopK;

choice::Selection limited(const choice::Table& scores, const RankedCapacityOptions& options,
                          const choice::ChoiceContext& context = {.training = true}) {
  const RankedCapacity selector(std::make_unique<TopK>(2), options);
  return selector.choose(
      {.values = scores.values, .num_tokens = scores.num_tokens, .num_experts = scores.num_experts}, context);
}

std::vector<size_t> sizes(const choice::Rows& rows) {
  std::vector<size_t> result;
  for (int64_t t = 0; t < rows.num_tokens(); ++t) result.push_back(rows.row(t).size());
  return result;
}

TEST(OpenMoe, HasTheDefaultsOfThePaper) {
  const Values v = make_piece(choice::selector_decorators(), "ranked_capacity").values;
  EXPECT_EQ(v.number("factor"), 1.25);
  EXPECT_EQ(v.number("evaluation_factor"), 2.0);
  EXPECT_EQ(v.integer("minimum"), 4);
  EXPECT_EQ(v.text("group"), "sequence");
  EXPECT_EQ(make_piece(balance_terms(), "switch").values.number("weight"), 0.01);
}

TEST(OpenMoe, CapacityIsMadeEvenBeforeTheMinimum) {
  EXPECT_EQ(ranked_capacity(1.25, 2 * 2048, 32, 4), 160);
  EXPECT_EQ(ranked_capacity(2.0, 2 * 2048, 32, 4), 256);
  EXPECT_EQ(ranked_capacity(1.25, 2 * 10, 8, 4), 4) << "floor(3.125) = 3, made even";
  EXPECT_EQ(ranked_capacity(1.25, 2 * 100, 16, 4), 16) << "floor(15.625) = 15, made even";
  EXPECT_EQ(ranked_capacity(1.0, 2, 8, 5), 5) << "the minimum is not made even";
}

TEST(OpenMoe, TokensThatAllWantTheSameExpertsLoseThemByPosition) {
  std::vector<float> values;
  for (int t = 0; t < 12; ++t) values.insert(values.end(), {0.6f, 0.3f, 0.06f, 0.04f});
  const choice::Selection selection = limited(choice::table(values, 4), {.factor = 0.5, .minimum = 2});
  EXPECT_EQ(sizes(selection.rows), (std::vector<size_t>{2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0}));
  const std::vector<double> dropped = choice::dropped_by_position(selection, 1, 4);
  EXPECT_NEAR(dropped[0], 0, 1e-12);
  EXPECT_NEAR(dropped[1], 2.0 / 3, 1e-12);
  EXPECT_NEAR(dropped[2], 1, 1e-12);
  EXPECT_NEAR(dropped[3], 1, 1e-12);
}

TEST(OpenMoe, FirstChoicesOutrankSecondOnes) {
  // Tokens 0 and 1 have expert 1 as their second choice, tokens 2 and 3 as their first; it has room for two.
  const choice::Table scores = choice::table({0.6f, 0.4f, 0, 0.6f, 0.4f, 0, 0, 0.6f, 0.4f, 0, 0.6f, 0.4f}, 3);
  const choice::Selection selection = limited(scores, {.factor = 0.5, .minimum = 2});
  EXPECT_EQ(choice::lists(selection.rows), (std::vector<std::vector<int32_t>>{{0}, {0}, {1, 2}, {1, 2}}));
}

TEST(OpenMoe, UsedAndDroppedAddUpAndNoExpertIsOverfull) {
  RandomStream random(1, "scores");
  for (const bool by_sequence : {true, false}) {
    const choice::Table scores = choice::random_logits(96, 8, random);
    const choice::Selection selection =
        limited(scores, {.factor = 0.7, .minimum = 2, .by_sequence = by_sequence},
                {.training = true, .num_sequences = 3});
    EXPECT_EQ(selection.before_capacity->expert.size(), 2u * 96);
    EXPECT_LT(selection.rows.expert.size(), 2u * 96);
    const int64_t groups = by_sequence ? 3 : 1, length = 96 / groups;
    const int64_t room = ranked_capacity(0.7, 2 * length, 8, 2);
    for (int64_t g = 0; g < groups; ++g) {
      std::vector<int64_t> used(8);
      for (int64_t t = g * length; t < (g + 1) * length; ++t) {
        for (int32_t e : selection.rows.row(t)) ++used[static_cast<size_t>(e)];
      }
      EXPECT_LE(std::ranges::max(used), room);
    }
  }
}

RouterSpec openmoe_spec(double factor) {
  RouterSpec spec = spec_of("linear", "top_k", {{"top_k", int64_t{2}}});
  spec.decorators = {make_piece(choice::selector_decorators(), "ranked_capacity",
                                {{"factor", factor}, {"evaluation_factor", factor}})};
  spec.balance = {make_piece(balance_terms(), "switch")};
  return spec;
}

Router router_of(const RouterSpec& spec) {
  RandomStream random(2, "router");
  return {spec, {.hidden_size = 6, .num_experts = 4}, random};
}

TEST(OpenMoe, WithRoomForAllItIsPlainTopTwoWithRawWeights) {
  RandomStream random(3, "hidden");
  const Tensor hidden = normals({40, 6}, random);
  RouterSpec plain = openmoe_spec(2.0);
  plain.decorators = {};
  Router limited = router_of(openmoe_spec(2.0)), unlimited = router_of(plain);
  const Assignment a = limited.route(hidden, {.training = true}).assignment,
                   b = unlimited.route(hidden, {.training = true}).assignment;
  EXPECT_TRUE(at::equal(a.token, b.token) && at::equal(a.expert_begin, b.expert_begin));
  EXPECT_TRUE(at::equal(a.weight.detach(), b.weight.detach()));
  RouterSpec no_drop = openmoe_spec(0.25);
  no_drop.decorators[0].values.set("evaluation_factor", 0.0);
  EXPECT_EQ(router_of(no_drop).route(hidden, {}).assignment.num_pairs(), 80) << "no limit in evaluation";
  EXPECT_LT(router_of(no_drop).route(hidden, {.training = true}).assignment.num_pairs(), 80);
}

TEST(OpenMoe, DroppedChoicesLeaveWeightsBalanceAndOtherTokensAsTheyWere) {
  RandomStream random(4, "hidden");
  const Tensor hidden = normals({40, 6}, random) + 1;
  Router limited = router_of(openmoe_spec(0.25)), unlimited = router_of(openmoe_spec(2.0));
  const RoutingRecord a = limited.route(hidden, {.training = true}),
                      b = unlimited.route(hidden, {.training = true});
  ASSERT_LT(a.assignment.num_pairs(), b.assignment.num_pairs());
  EXPECT_EQ(a.balance[0].value.item<double>(), b.balance[0].value.item<double>())
      << "counted before capacity";
  const Tensor sums = at::zeros({40}).index_add(0, a.assignment.token, a.assignment.weight.detach());
  EXPECT_LE(sums.max().item<double>(), 1 + 1e-6) << "not renormalised";
  const Tensor visits = at::bincount(a.assignment.token, {}, 40);
  ASSERT_EQ(visits.min().item<int64_t>(), 0) << "a token lost both choices";
  const int64_t lost = visits.argmin().item<int64_t>();
  const auto bank = make_expert_bank(make_piece(expert_banks(), "swiglu", {{"width", int64_t{8}}}), {},
                                     {.hidden_size = 6, .num_experts = 4}, random);
  const Tensor x = leaf(hidden);
  const Tensor output = bank->forward(x, a.assignment);
  EXPECT_EQ(output[lost].abs().max().item<double>(), 0);
  const Tensor by_logits = torch::autograd::grad({a.assignment.weight.sum()}, {a.scores.logits})[0];
  EXPECT_EQ(by_logits[lost].abs().max().item<double>(), 0);
}

TEST(OpenMoe, ZLossOfZeroLogitsIsTheSquareOfLnE) {
  EXPECT_NEAR(z_loss(at::zeros({5, 16})).item<double>(), std::log(16.0) * std::log(16.0), 1e-5);
}

TEST(Specialisation, OfOneHotRoutingIsItsLargestValue) {
  EXPECT_NEAR(specialisation_of({0, 7, 0, 0}), std::sqrt(1.0 / 4 - 1.0 / 16), 1e-12);
  std::vector<double> one_of_32(32, 0.0);
  one_of_32[5] = 3;
  EXPECT_NEAR(specialisation_of(one_of_32), 0.174, 5e-4);
  EXPECT_NEAR(specialisation_of({2, 2, 2}), 0, 1e-12);
  EXPECT_NEAR(specialisation({{200, 0}, {0, 100}, {1, 0}}, 128), 0.5, 1e-12) << "rare keys are left out";
  EXPECT_TRUE(std::isnan(specialisation({{1, 2}}, 128)));
  EXPECT_EQ(error_of([] {
              specialisation_of({0, 0});
            }),
            "the specialisation of a key needs at least one choice");
}

TEST(Specialisation, ByPositionFallsToTheMarginalWhenTokensArePermuted) {
  // Eight token ids, each always at its own position and with its own expert; then shuffled over positions.
  RandomStream random(5, "positions");
  KeyCounts fixed(8, std::vector<double>(8, 0.0)), shuffled = fixed;
  std::vector<int64_t> order = {0, 1, 2, 3, 4, 5, 6, 7};
  for (int repeat = 0; repeat < 4000; ++repeat) {
    random.shuffle(std::span(order));
    for (size_t position = 0; position < 8; ++position) {
      ++fixed[position][position];
      ++shuffled[position][static_cast<size_t>(order[position])];
    }
  }
  EXPECT_NEAR(specialisation(fixed), std::sqrt(1.0 / 8 - 1.0 / 64), 1e-12);
  EXPECT_LT(specialisation(shuffled), 0.02) << "the marginal is uniform";
}

TEST(RoutingOverlap, ComparesTheMostFrequentExpertsAndTheDistributions) {
  const RoutingOverlap overlap =
      routing_overlap({{3, 1}, {0, 2}, {5, 0}, {0, 0}}, {{4, 0}, {2, 0}, {5, 0}, {1, 0}});
  EXPECT_NEAR(overlap.same_expert, 2.0 / 3, 1e-12);
  EXPECT_NEAR(overlap.cosine, (3 / std::sqrt(10.0) + 0 + 1) / 3, 1e-12);
  EXPECT_TRUE(std::isnan(routing_overlap({{0, 0}}, {{1, 0}}).cosine));
}

TEST(OpenMoe, RefusesWhatMakesNoSense) {
  EXPECT_EQ(error_of([] { ranked_capacity(1.25, 10, 1, 4); }),
            "[ranked_capacity] a capacity limit needs at least 2 experts, got 1");
  EXPECT_EQ(error_of([] { RankedCapacity(nullptr, {.factor = 0}); }),
            "[ranked_capacity] factor must be more than 0, got 0");
  RouterSpec spec = openmoe_spec(1);
  spec.selector = make_piece(choice::selectors(), "top_k", {{"top_k", int64_t{1}}});
  EXPECT_EQ(router_problems(spec, 1),
            std::vector<std::string>{
                "[ranked_capacity] a capacity limit needs at least 2 experts, got 1; leave it out"});
  spec.decorators.push_back(make_piece(choice::selector_decorators(), "capacity"));
  EXPECT_EQ(router_problems(spec, 4),
            std::vector<std::string>{
                "[capacity] and [ranked_capacity] both limit the experts; leave one of them out"});
}

}  // namespace
}  // namespace gatewright

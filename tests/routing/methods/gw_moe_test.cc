// GW-MoE (Wu et al. 2024): uncertain tokens visit all experts in training, as docs/methods/gw-moe.md
// describes it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gatewright/experts/ffn_function.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/choice/selectors/broadcast.h"
#include "gatewright/routing/choice/selectors/decorators.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/uncertainty.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

using choice::Broadcast;
using choice::TopK;
constexpr int64_t kUnlimited = 1 << 20;

class GivenLogits final : public Scorer {
 public:
  Tensor logits(const Tensor& hidden, const RoutingContext&) override { return hidden; }
  void collect(ParameterList&, const std::string&) const override {}
};

Router router_with(double threshold, int64_t slots, const choice::WeightRule& weights = {}, int64_t k = 1) {
  return {std::make_unique<GivenLogits>(),
          std::make_unique<Broadcast>(std::make_unique<TopK>(k), threshold, slots),
          choice::Activation::kSoftmax, weights};
}

Router plain_router(const choice::WeightRule& weights = {}, int64_t k = 1) {
  return {std::make_unique<GivenLogits>(), std::make_unique<TopK>(k), choice::Activation::kSoftmax, weights};
}

/// Experts that each token visits.
std::vector<int64_t> visits(const RoutingRecord& record) {
  const Tensor counts = at::bincount(record.assignment.token, {}, record.assignment.num_tokens);
  return {counts.data_ptr<int64_t>(), counts.data_ptr<int64_t>() + counts.numel()};
}

bool same(const RoutingRecord& a, const RoutingRecord& b) {
  return at::equal(a.assignment.expert_begin, b.assignment.expert_begin) &&
         at::equal(a.assignment.token, b.assignment.token) &&
         at::equal(a.assignment.weight.detach(), b.assignment.weight.detach());
}

/// Uniform, peaked, nearly uniform, medium over four experts: entropies ln 4, 0.17, 1.37, 1.21.
Tensor four_tokens() {
  return at::log(tensor({0.25f, 0.25f, 0.25f, 0.25f, 0.97f, 0.01f, 0.01f, 0.01f,  //
                         0.3f, 0.25f, 0.25f, 0.2f, 0.5f, 0.2f, 0.2f, 0.1f},
                        {4, 4}));
}

TEST(GwMoe, UncertaintyIsTheEntropyWithItsAddend) {
  EXPECT_NEAR(choice::uncertainty(std::vector<float>(8, 0.125f)), 2.0793615, 1e-6);
  EXPECT_NEAR(choice::uncertainty(std::vector<float>{0, 1, 0}), -1.0e-5, 1e-9) << "a hair below 0, not NaN";
  EXPECT_NEAR(choice::largest_uncertainty(8), 2.0793615, 1e-6);
  const Tensor both = uncertainty(tensor({0.5f, 0.5f, 1, 0}, {2, 2}));
  EXPECT_NEAR(both[0].item<double>(), choice::uncertainty(std::vector<float>{0.5f, 0.5f}), 1e-6);
  EXPECT_NEAR(both[1].item<double>(), -1.0e-5, 1e-6);
}

TEST(GwMoe, WarnsOfAThresholdThatNoTokenReaches) {
  RouterSpec spec = spec_of("linear", "top_k");
  const auto with = [&](double threshold) {
    spec.decorators = {make_piece(choice::selector_decorators(), "broadcast", {{"threshold", threshold}})};
    return router_warnings(spec, 8);
  };
  EXPECT_TRUE(with(2.0793).empty());
  ASSERT_EQ(with(2.0794).size(), 1u);
  EXPECT_EQ(
      with(2.0794)[0],
      "[broadcast] threshold = 2.0794 is above 2.07936, the uncertainty of a token that has no preference "
      "among 8 experts: none will be broadcast; 1.8 is usual for 8 experts");
}

TEST(GwMoe, BroadcastsTheFirstUncertainTokensOfEachSequence) {
  const RoutingContext training{.training = true};
  EXPECT_EQ(visits(router_with(1.2, kUnlimited).route(four_tokens(), training)),
            (std::vector<int64_t>{4, 1, 4, 4}));
  EXPECT_EQ(visits(router_with(1.2, 2).route(four_tokens(), training)), (std::vector<int64_t>{4, 1, 4, 1}));
  EXPECT_EQ(visits(router_with(1.2, 0).route(four_tokens(), training)), (std::vector<int64_t>{1, 1, 1, 1}));
  EXPECT_TRUE(same(router_with(1.2, 0).route(four_tokens(), training),
                   plain_router().route(four_tokens(), training)));
  const Tensor two_sequences = at::cat({four_tokens(), four_tokens()});
  EXPECT_EQ(visits(router_with(1.2, 1).route(two_sequences, {.training = true, .num_sequences = 2})),
            (std::vector<int64_t>{4, 1, 1, 1, 4, 1, 1, 1}))
      << "slots are counted in each sequence";
  const RoutingContext padded{.training = true,
                              .real_tokens = at::tensor({0, 1, 1, 1}, at::kLong).to(at::kBool)};
  EXPECT_EQ(visits(router_with(1.2, 1).route(four_tokens(), padded)), (std::vector<int64_t>{1, 1, 4, 1}))
      << "padding takes no slot";
}

TEST(GwMoe, OutsideTrainingOrAboveEveryEntropyIsThePlainLayer) {
  RandomStream random(1, "logits");
  const Tensor logits = normals({50, 6}, random) * 0.3;
  for (const choice::Weighting weighting : {choice::Weighting::kAsIs, choice::Weighting::kSoftmaxChosen}) {
    const choice::WeightRule rule{.weighting = weighting};
    EXPECT_TRUE(
        same(router_with(0, kUnlimited, rule, 2).route(logits, {}), plain_router(rule, 2).route(logits, {})));
    EXPECT_TRUE(same(router_with(std::log(6), kUnlimited, rule, 2).route(logits, {.training = true}),
                     plain_router(rule, 2).route(logits, {.training = true})));
  }
}

TEST(GwMoe, WithEveryTokenUncertainIsTheDenseMixture) {
  RandomStream random(2, "logits");
  const Tensor logits = normals({20, 5}, random);
  for (const choice::Weighting weighting : {choice::Weighting::kAsIs, choice::Weighting::kRenormalised,
                                            choice::Weighting::kSoftmaxChosen, choice::Weighting::kEqual}) {
    const RoutingRecord record =
        router_with(-1, kUnlimited, {.weighting = weighting}, 2).route(logits, {.training = true});
    ASSERT_EQ(record.assignment.num_pairs(), 100);
    const Tensor mixture = record.assignment.weight.view({5, 20}).t();  // pairs lie by expert
    EXPECT_LT(difference(mixture, at::softmax(logits, -1)), 1e-6) << "whatever the model's own weights are";
  }
}

/// Experts that all compute the same function of width 6.
FfnTensors equal_experts(int64_t num_experts, int64_t hidden_size, RandomStream& random) {
  const auto repeated = [&](at::IntArrayRef shape) {
    const Tensor one = normals(shape, random);
    return at::stack(std::vector<Tensor>(static_cast<size_t>(num_experts), one)).set_requires_grad(true);
  };
  return {.up = repeated({6, hidden_size}), .down = repeated({hidden_size, 6})};
}

TEST(GwMoe, IsLinearInItsWeightsAndReachesTheRightExperts) {
  RandomStream random(3, "experts");
  const Tensor logits = four_tokens(), hidden = normals({4, 5}, random);
  const FfnTensors experts = equal_experts(4, 5, random);
  const RoutingRecord record = router_with(1.2, 1).route(logits, {.training = true});  // token 0 is broadcast
  const Tensor output = expert_ffn(hidden, record.assignment, experts, Activation::relu);
  const Tensor function = at::relu(hidden.mm(experts.up[0].t())).mm(experts.down[0].t());
  EXPECT_LT(difference(output[0], function[0]), 1e-5) << "weights sum to 1";
  const Tensor largest = std::get<0>(at::softmax(logits, -1).max(-1, true));
  EXPECT_LT(difference(output.slice(0, 1), (largest * function).slice(0, 1)), 1e-5) << "p_max times it";
  output[0].sum().backward({}, /*retain_graph=*/true);
  for (int64_t e = 0; e < 4; ++e) EXPECT_GT(experts.down.grad()[e].abs().max().item<double>(), 0) << e;
  experts.down.mutable_grad() = Tensor();
  output[1].sum().backward();
  for (int64_t e = 0; e < 4; ++e)
    EXPECT_EQ(experts.down.grad()[e].abs().max().item<double>() > 0, e == 0) << e;
}

TEST(GwMoe, BroadcastWeightsHaveTheGradientOfTheSoftmax) {
  RandomStream random(4, "logits");
  const Tensor logits = normals({6, 4}, random).to(at::kDouble),
               factor = normals({24}, random).to(at::kDouble);
  const auto f = [&](const Tensor& x) {
    const Scores scores = scores_of(x);
    choice::Selection selection;
    for (int64_t t = 0; t < 6; ++t) {  // tokens 1 and 4 are broadcast, the others visit two experts
      for (int32_t e = 0; e < (t == 1 || t == 4 ? 4 : 2); ++e) selection.rows.expert.push_back(e);
      selection.rows.row_begin.push_back(static_cast<int64_t>(selection.rows.expert.size()));
    }
    selection.broadcast = {1, 4};
    const Assignment a = weigh({.weighting = choice::Weighting::kRenormalised}, scores, selection);
    return (a.weight * factor.slice(0, 0, a.num_pairs()).to(x.scalar_type())).sum();
  };
  EXPECT_LT(difference(gradient(logits, f), slopes(logits, f)), 1e-7);
  EXPECT_LT(difference(gradient(logits.to(at::kFloat), f), slopes(logits, f)), 1e-4)
      << "the path of plain rows";
}

TEST(GwMoe, OneTokenChangesNoOtherButThroughTheSlots) {
  RandomStream random(5, "logits");
  const Tensor logits = normals({12, 4}, random) * 0.4;
  Tensor changed = logits.clone();
  changed[5] = tensor({9, 0, 0, 0}, {4});
  const auto rest = [](const RoutingRecord& record) {
    Tensor weights =
        at::zeros({12, 4}).index_put_({c10::optional<Tensor>(record.assignment.token),
                                       c10::optional<Tensor>(expert_of_pairs(record.assignment))},
                                      record.assignment.weight.detach());
    weights[5].zero_();
    return weights;
  };
  const auto weights = [&](const Tensor& x, int64_t slots) {
    return rest(router_with(1.25, slots).route(x, {.training = true, .num_sequences = 2}));
  };
  EXPECT_TRUE(at::equal(weights(logits, kUnlimited), weights(changed, kUnlimited)));
  EXPECT_TRUE(at::equal(weights(logits, 2).slice(0, 6), weights(changed, 2).slice(0, 6)))
      << "the other sequence has its own slots";
}

TEST(GwMoe, ABroadcastTokenKeepsItsPlaceInACapacityLimit) {
  // Both tokens prefer expert 0, which has room for one: ceil(1 x 2 / 2). Token 0 is broadcast.
  const Tensor logits = tensor({0.1f, 0, 5, 0}, {2, 2});
  Router router(
      std::make_unique<GivenLogits>(),
      std::make_unique<Broadcast>(std::make_unique<choice::Capacity>(std::make_unique<TopK>(1), 1.0,
                                                                     choice::Overflow::kDropByPosition),
                                  0.6, kUnlimited));
  EXPECT_EQ(visits(router.route(logits, {.training = true})), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(visits(router.route(logits, {})), (std::vector<int64_t>{1, 0}));
}

TEST(GwMoe, BalanceReadsTheOrdinaryChoicesOfBroadcastTokens) {
  const auto balance_of = [](double threshold) {
    std::vector<WeightedTerm> terms;
    terms.push_back(make_balance_term("switch", make_piece(balance_terms(), "switch").values,
                                      {.hidden_size = 4, .num_experts = 4}));
    Router router(std::make_unique<GivenLogits>(),
                  std::make_unique<Broadcast>(std::make_unique<TopK>(1), threshold, kUnlimited),
                  choice::Activation::kSoftmax, {}, std::move(terms));
    const RoutingRecord record = router.route(four_tokens(), {.training = true});
    return std::pair(record.assignment.num_pairs(), record.balance.front().value.item<double>());
  };
  const auto [ordinary_pairs, ordinary] = balance_of(2);
  const auto [pairs, value] = balance_of(1.3);
  EXPECT_EQ(ordinary_pairs, 4);
  EXPECT_EQ(pairs, 4 + 2 * 3) << "two tokens visit all four experts";
  EXPECT_EQ(value, ordinary);
}

TEST(GwMoe, SuggestsAThresholdByTheShareOfUncertainTokens) {
  const Tensor values = at::arange(0, 100).to(at::kFloat) / 100;
  const double threshold = threshold_for_share(values, 0.1);
  EXPECT_NEAR((values >= threshold).to(at::kFloat).mean().item<double>(), 0.1, 1e-6);
  EXPECT_EQ(error_of([&] { threshold_for_share(values, 1.5); }),
            "the share of uncertain tokens must lie in (0, 1), got 1.5");
  EXPECT_EQ(error_of([] { threshold_for_share(at::empty({0}), 0.1); }),
            "a threshold needs the uncertainty of at least one token");
}

TEST(GwMoe, RefusesParametersThatMakeNoSense) {
  EXPECT_EQ(error_of([] { Broadcast(nullptr, std::numeric_limits<double>::quiet_NaN(), 1); }),
            "[broadcast] threshold must be finite, got nan");
  EXPECT_EQ(error_of([] { Broadcast(nullptr, 1.8, -1); }), "[broadcast] slots must not be negative, got -1");
  EXPECT_EQ(error_of([] {
              make_piece(choice::selector_decorators(), "broadcast", {{"slots", int64_t{-2}}});
            }).substr(0, 17),
            "[broadcast] slots");
  RouterSpec spec = spec_of("linear", "all");
  spec.decorators = {make_piece(choice::selector_decorators(), "broadcast")};
  EXPECT_EQ(router_problems(spec, 8),
            std::vector<std::string>{
                "[broadcast] every token visits all experts already with selector = \"all\"; take "
                "another selector, such as \"top_k\", or leave [routing.broadcast] out"});
  EXPECT_EQ(spec.decorators[0].values.number("threshold"), 1.8);
  EXPECT_EQ(spec.decorators[0].values.integer("slots"), 16);
}

}  // namespace
}  // namespace gatewright

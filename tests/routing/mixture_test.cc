// The mixture of routers: the joint distribution by hand, what its options mean, gradients.
#include "gatewright/routing/scorers/mixture.h"

#include <gtest/gtest.h>

#include <cmath>

#include "routing_testing.h"

namespace gatewright {
namespace {

Tensor logarithms(const std::vector<float>& values, at::IntArrayRef shape) {
  return tensor(values, shape).log();
}

/// p of one token from logits of its sub-routers and of the main router.
Tensor joint(const Tensor& sub, const Tensor& main, MixtureLevel level = MixtureLevel::kProbabilities,
             int64_t top_m = 0) {
  return at::softmax(mixture_logits(sub, main_log_weights(main, top_m), level), -1);
}

TEST(MixtureOfRouters, MixesDecisionsByTheMainWeights) {
  const Tensor sub = logarithms({0.8f, 0.2f, 0.4f, 0.6f}, {1, 2, 2});
  const Tensor p = joint(sub, logarithms({0.75f, 0.25f}, {1, 2}));
  EXPECT_LT(difference(p, tensor({0.7f, 0.3f}, {1, 2})), 1e-6);
}

TEST(MixtureOfRouters, OfOneSubRouterIsThatRouter) {
  RandomStream random(1, "mixture");
  const Tensor sub = normals({5, 1, 4}, random);
  Tensor main = leaf(normals({5, 1}, random));
  for (const MixtureLevel level : {MixtureLevel::kProbabilities, MixtureLevel::kLogits}) {
    const Tensor p = joint(leaf(sub), main, level);
    EXPECT_TRUE(at::equal(p, at::softmax(sub.select(1, 0), -1)));
    p.select(-1, 0).sum().backward();
  }
  EXPECT_TRUE(!main.grad().defined() || at::equal(main.grad(), at::zeros_like(main)));
}

TEST(MixtureOfRouters, OfEqualSubRoutersIgnoresTheMainRouter) {
  RandomStream random(2, "mixture");
  const Tensor sub = normals({5, 1, 4}, random).expand({5, 3, 4});
  for (const MixtureLevel level : {MixtureLevel::kProbabilities, MixtureLevel::kLogits}) {
    const Tensor one = joint(sub, normals({5, 3}, random) * 3, level);
    EXPECT_LT(difference(one, joint(sub, at::zeros({5, 3}), level)), 1e-6);
  }
}

TEST(MixtureOfRouters, GivesADistributionAndWithTopOneThatOfTheStrongestSubRouter) {
  RandomStream random(3, "mixture");
  const Tensor sub = normals({50, 3, 6}, random) * 4, main = normals({50, 3}, random);
  for (int64_t top_m : {0, 1, 2, 3}) {
    const Tensor sums = joint(sub, main, MixtureLevel::kProbabilities, top_m).sum(-1);
    EXPECT_LT(difference(sums, at::ones({50})), 1e-6) << top_m;
  }
  const Tensor strongest = sub.gather(1, main.argmax(-1).view({50, 1, 1}).expand({50, 1, 6})).select(1, 0);
  EXPECT_LT(difference(joint(sub, main, MixtureLevel::kProbabilities, 1), at::softmax(strongest, -1)), 1e-6);
  const Tensor tie = main_log_weights(at::zeros({1, 3}), 1).exp();
  EXPECT_EQ(to_floats(tie), (std::vector<float>{1, 0, 0})) << "ties to the lower id";
  const Tensor two = main_log_weights(logarithms({0.5f, 0.3f, 0.2f}, {1, 3}), 2).exp();
  EXPECT_LT(difference(two, tensor({0.625f, 0.375f, 0}, {1, 3})), 1e-6) << "renormalised";
}

TEST(MixtureOfRouters, MixesLogitsOrProbabilitiesWhichChooseDifferently) {
  const Tensor half = at::zeros({1, 2});
  const Tensor two = tensor({10, 0, 0, 10}, {1, 2, 2}), three = tensor({10, 0, 9, 0, 10, 9}, {1, 2, 3});
  for (const MixtureLevel level : {MixtureLevel::kProbabilities, MixtureLevel::kLogits})
    EXPECT_LT(difference(joint(two, half, level), tensor({0.5f, 0.5f}, {1, 2})), 1e-4);
  const Tensor probs = joint(three, half), logits = joint(three, half, MixtureLevel::kLogits);
  EXPECT_NEAR(probs[0][2].item<double>(), 0.269, 1e-3);
  EXPECT_NEAR(logits[0][2].item<double>(), 0.965, 1e-3);
  EXPECT_EQ(probs.argmax(-1).item<int64_t>(), 0);
  EXPECT_EQ(logits.argmax(-1).item<int64_t>(), 2);
}

TEST(MixtureOfRouters, StaysFiniteForLargeLogits) {
  Tensor sub = leaf(tensor({400, 0, 0, 400}, {1, 2, 2})), main = leaf(tensor({300, 0}, {1, 2}));
  joint(sub, main, MixtureLevel::kProbabilities, 1).square().sum().backward();
  EXPECT_TRUE(at::isfinite(sub.grad()).all().item<bool>());
  EXPECT_TRUE(at::isfinite(main.grad()).all().item<bool>());
}

TEST(MixtureOfRouters, TellsHowMuchSubRoutersCountAndAgree) {
  const Tensor main = main_log_weights(logarithms({0.75f, 0.25f, 0.25f, 0.75f}, {2, 2}), 0);
  EXPECT_LT(difference(sub_router_usage(main), tensor({0.5f, 0.5f}, {2})), 1e-6);
  EXPECT_NEAR(main_router_loss(main).item<double>(), 1, 1e-6) << "balanced";
  const Tensor one_sided = main_log_weights(logarithms({0.75f, 0.25f}, {1, 2}), 0);
  EXPECT_NEAR(main_router_loss(one_sided).item<double>(), 1.5, 1e-6) << "2 x 1 x 0.75";
  EXPECT_NEAR(main_router_loss(main_log_weights(at::zeros({4, 3}), 2)).item<double>(), 3, 1e-6)
      << "3 x (0.5 + 0.5): the tokens all count the first two";
  const Tensor sub = tensor({1, 0, 1, 0, 0, 1, /**/ 0, 1, 0, 1, 0, 1}, {2, 3, 2});
  EXPECT_NEAR(sub_router_agreement(sub), 2.0 / 3, 1e-9) << "one of three pairs, and three of three";
  EXPECT_EQ(sub_router_agreement(sub.narrow(1, 0, 1)), 1);
}

TEST(MixtureScorer, DrawsEachSubRouterForItself) {
  const auto scorer = make_scorer("mixture", {.hidden_size = 6, .num_experts = 5});
  ParameterList list;
  scorer->collect(list, "gate");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].name, "gate.sub_routers");
  EXPECT_EQ(list[0].tensor.sizes(), (std::vector<int64_t>{3, 5, 6}));
  EXPECT_EQ(list[1].name, "gate.main_router");
  EXPECT_EQ(list[1].tensor.sizes(), (std::vector<int64_t>{3, 6}));
  EXPECT_GT((list[0].tensor[0] - list[0].tensor[1]).abs().min().item<double>(), 0);
}

TEST(MixtureScorer, LeavesTheMainWeightsForItsBalanceTerm) {
  RandomStream random(4, "hidden");
  const Tensor hidden = normals({9, 6}, random);
  const auto scorer = make_scorer("mixture", {.hidden_size = 6, .num_experts = 5});
  CarriedState state;
  const RoutingContext context{.layer = 2, .carried = &state};
  const Scores scores = scores_of(scorer->logits(hidden, context));
  const auto term = make_term("main_router", {}, 5);
  EXPECT_NEAR(term->loss(scores, {}, context).item<double>(),
              main_router_loss(state.at(MixtureScorer::kMainLogWeights)).item<double>(), 1e-12);
  EXPECT_EQ(error_of([&] { term->loss(scores, {}, {.layer = 2}); }),
            "layer 2: [main_router] reads the weights of the scorer mixture from the state of the forward "
            "pass, and the context has none");
}

TEST(MixtureScorer, RefusesBadNumbers) {
  const RouterSizes sizes{.hidden_size = 2, .num_experts = 2};
  RandomStream random(1, "scorer");
  EXPECT_EQ(error_of([&] { MixtureScorer(sizes, {.num_routers = 0}, random); }),
            "[mixture] num_routers must be at least 1, got 0");
  EXPECT_EQ(error_of([&] { MixtureScorer(sizes, {.num_routers = 2, .top_m = 3}, random); }),
            "[mixture] top_m must be in [0, num_routers = 2], got 3");
  RouterSpec spec = spec_of("mixture", "top_k");
  spec.scorer = make_piece(scorers(), "mixture", {{"top_m", int64_t{4}}});
  EXPECT_EQ(router_problems(spec, 8),
            std::vector<std::string>{"top_m = 4, but it can be at most num_routers, which is 3"});
  spec = spec_of("linear", "top_k");
  spec.balance = {make_piece(balance_terms(), "main_router")};
  EXPECT_EQ(router_problems(spec, 8),
            std::vector<std::string>{"main_router works with scorer = \"mixture\" only, and the scorer is "
                                     "linear; change the scorer or leave main_router out"});
}

}  // namespace
}  // namespace gatewright

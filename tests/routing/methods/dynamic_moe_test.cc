// Dynamic MoE (Huang et al. 2024, "Harder Tasks Need More Experts"): top-p on raw probabilities, the
// count-based switch loss and the entropy loss, as docs/methods/dynamic-moe.md describes them.
#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/experts/registry.h"
#include "gatewright/routing/balance/switch.h"
#include "gatewright/routing/balance/terms.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/statistics.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

using Ids = std::vector<int32_t>;

Ids top_p(const std::vector<float>& probabilities, double p) {
  Ids chosen;
  choice::TopP(p, 1, 0).choose_row(probabilities, chosen);
  std::ranges::sort(chosen);
  return chosen;
}

/// A row of logits whose softmax is `probabilities`.
Tensor logits_of(const std::vector<float>& probabilities) {
  return at::log(tensor(probabilities, {1, static_cast<int64_t>(probabilities.size())}));
}

/// What the router reads is what it scores.
class IdentityScorer final : public Scorer {
 public:
  Tensor logits(const Tensor& hidden, const RoutingContext&) override { return hidden; }
  void collect(ParameterList&, const std::string&) const override {}
};

RoutingRecord route(const Tensor& logits, double p) {
  Router router(std::make_unique<IdentityScorer>(), std::make_unique<choice::TopP>(p, 1, 0));
  return router.route(logits, {});
}

TEST(DynamicMoe, HasTheDefaultsOfThePaper) {
  EXPECT_EQ(make_piece(choice::selectors(), "top_p").values.number("top_p"), 0.4);
  EXPECT_EQ(make_piece(balance_terms(), "switch").values.number("weight"), 0.01);
  EXPECT_EQ(make_piece(balance_terms(), "entropy").values.number("weight"), 0.0001);
}

TEST(DynamicMoe, ChoosesUntilTheSumExceedsP) {
  const std::vector<float> p = {0.5f, 0.25f, 0.15f, 0.10f};
  EXPECT_EQ(top_p(p, 0.4), Ids{0});
  EXPECT_EQ(top_p(p, 0.55), (Ids{0, 1}));
  EXPECT_EQ(top_p(p, 0.89), (Ids{0, 1, 2}));
  EXPECT_EQ(top_p(p, 0.91), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(top_p({0.25f, 0.25f, 0.25f, 0.25f}, 0.4), (Ids{0, 1})) << "ties go to the lower ids";
}

TEST(DynamicMoe, WeighsWithTheRawProbabilities) {
  const Tensor logits = logits_of({0.5f, 0.25f, 0.15f, 0.10f});
  EXPECT_LT(difference(route(logits, 0.4).assignment.weight, tensor({0.5f}, {1})), 1e-6);
  EXPECT_LT(difference(route(logits, 0.55).assignment.weight, tensor({0.5f, 0.25f}, {2})), 1e-6);
}

TEST(DynamicMoe, TakesPrefixesThatGrowWithP) {
  RandomStream random(1, "probabilities");
  const Tensor probabilities = at::softmax(normals({200, 16}, random) * 2, -1);
  for (int64_t t = 0; t < 200; ++t) {
    const std::vector<float> row = to_floats(probabilities[t]);
    const std::vector<int32_t> order = choice::best_experts(row, 16);
    size_t before = 1;
    for (double p : {1e-9, 0.1, 0.35, 0.4, 0.72, 0.95, 1.0}) {
      Ids expected(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top_p(row, p).size()));
      std::ranges::sort(expected);
      EXPECT_EQ(top_p(row, p), expected);
      EXPECT_GE(expected.size(), before);
      before = expected.size();
    }
  }
}

TEST(DynamicMoe, WeightsOfARowSumToMoreThanPAndAreNotRenormalised) {
  RandomStream random(2, "logits");
  const RoutingRecord record = route(normals({300, 8}, random) * 2, 0.4);
  const Tensor sums =
      at::zeros({300}).index_add(0, record.assignment.token, record.assignment.weight.detach());
  EXPECT_GT(sums.min().item<double>(), 0.4);
  EXPECT_LE(sums.max().item<double>(), 1 + 1e-6);
  EXPECT_LT(sums.min().item<double>(), 0.9) << "renormalised weights would sum to 1";
  const Tensor raw =
      record.scores.probabilities.index({c10::optional<Tensor>(record.assignment.token),
                                         c10::optional<Tensor>(expert_of_pairs(record.assignment))});
  EXPECT_TRUE(at::equal(record.assignment.weight.detach(), raw.detach()));
}

TEST(DynamicMoe, IsTopOneForATinyPAndTheDenseMixtureForOne) {
  RandomStream random(3, "logits");
  const Tensor logits = normals({2000, 16}, random) * 3;
  const RoutingRecord one = route(logits, 1e-12);
  EXPECT_EQ(one.assignment.num_pairs(), 2000);
  const Tensor best = std::get<0>(one.scores.probabilities.max(-1));
  const Tensor by_token = at::zeros({2000}).index_add(0, one.assignment.token, one.assignment.weight);
  EXPECT_TRUE(at::equal(by_token, best));
  const RoutingRecord all = route(logits, 1);
  EXPECT_EQ(all.assignment.num_pairs(), 2000 * 16) << "also where rounded probabilities sum to more than 1";
  const Tensor on_tensors = tensor_choice(
      "top_p", make_piece(choice::selectors(), "top_p", {{"top_p", 1.0}}).values)(all.scores.probabilities);
  EXPECT_TRUE(on_tensors.all().item<bool>());
}

TEST(DynamicMoe, EntropyLossIsLnEForUniformAndZeroForOneHot) {
  EXPECT_NEAR(mean_entropy(at::full({3, 16}, 1.0 / 16, at::kDouble)).item<double>(), 2.772589, 1e-6);
  EXPECT_EQ(mean_entropy(tensor({0, 1, 0, 0}, {1, 4})).item<double>(), 0) << "0 log 0 is 0";
}

TEST(DynamicMoe, EntropyLossHasItsGradient) {
  RandomStream random(4, "logits");
  const Tensor logits = leaf(normals({5, 6}, random).to(at::kDouble));
  mean_entropy(at::softmax(logits, -1)).backward();
  const Tensor p = at::softmax(logits.detach(), -1);
  const Tensor entropy = (p * at::log(p)).sum(-1, true).neg();
  EXPECT_LT(difference(logits.grad(), -p * (at::log(p) + entropy) / 5), 1e-12);
}

TEST(DynamicMoe, BalanceLossIsEWhenAllVisitAllAndOneWhenEachVisitsOne) {
  const int64_t num_experts = 4;
  const Tensor uniform = at::full({num_experts}, 0.25);
  EXPECT_NEAR(switch_loss(at::ones({num_experts}), uniform).item<double>(), 4, 1e-6);
  EXPECT_NEAR(switch_loss(uniform, uniform).item<double>(), 1, 1e-6);
  const Scores scores = scores_of(at::zeros({4, 4}));
  const auto term = make_term("switch");
  const Ids all = {0, 1, 2, 3};
  EXPECT_NEAR(term->loss(scores, assign(scores, {all, all, all, all}), {}).item<double>(), 4, 1e-6)
      << "f is a share of tokens, so that larger sets cost more";
  EXPECT_NEAR(term->loss(scores, assign(scores, {{0}, {1}, {2}, {3}}), {}).item<double>(), 1, 1e-6);
}

TEST(DynamicMoe, PermutesItsOutputWithTheTokensAndNothingElse) {
  RandomStream random(5, "layer");
  const int64_t tokens = 60, hidden_size = 8, num_experts = 16;
  Router router(spec_of("linear", "top_p"), {.hidden_size = hidden_size, .num_experts = num_experts}, random);
  const auto bank =
      make_expert_bank(make_piece(expert_banks(), "swiglu", {{"width", int64_t{12}}, {"init", 0.5}}), {},
                       {.hidden_size = hidden_size, .num_experts = num_experts}, random);
  const Tensor hidden = normals({tokens, hidden_size}, random);
  const Tensor order = at::tensor(choice::random_order(tokens, random), at::kLong);
  const auto output = [&](const Tensor& x) { return bank->forward(x, router.route(x, {}).assignment); };
  EXPECT_LT(difference(output(hidden.index_select(0, order)), output(hidden).index_select(0, order)), 1e-6);
}

TEST(DynamicMoe, RefusesAPOutsideItsRange) {
  EXPECT_EQ(error_of([] { choice::TopP(0, 1, 0); }), "[top_p] p must lie in (0, 1], got 0");
  EXPECT_EQ(error_of([] { choice::TopP(-0.5, 1, 0); }), "[top_p] p must lie in (0, 1], got -0.5");
  EXPECT_EQ(error_of([] { choice::TopP(1.5, 1, 0); }), "[top_p] p must lie in (0, 1], got 1.5");
}

TEST(DynamicMoe, AveragesItsLossesOverLayersWhenAsked) {
  const auto weight_of = [](const char* over_layers) {
    RouterSpec spec = spec_of("linear", "top_p");
    spec.balance = {make_piece(balance_terms(), "switch", {{"over_layers", std::string(over_layers)}})};
    RandomStream random(6, "router");
    Router router(spec, {.hidden_size = 4, .num_experts = 4}, random);
    return router.route(at::ones({2, 4}), {.num_routed_layers = 5}).balance.at(0).weight;
  };
  EXPECT_DOUBLE_EQ(weight_of("sum"), 0.01);
  EXPECT_DOUBLE_EQ(weight_of("mean"), 0.002);
}

TEST(RoutingStatistics, CountTokensByTheirNumberOfExperts) {
  const Scores scores = scores_of(at::zeros({4, 3}));
  RoutingStatistics statistics;
  statistics.add(std::vector<RoutingRecord>{
      {.scores = scores, .assignment = assign(scores, {{0}, {0, 1, 2}, {}, {2}})}});
  EXPECT_EQ(statistics.layers()[0].tokens_by_experts, (std::vector<double>{1, 2, 0, 1}));
  EXPECT_DOUBLE_EQ(statistics.layers()[0].experts_per_token(), 1.25);
}

}  // namespace
}  // namespace gatewright

// The pieces put together: what a router's record holds, that it is float32 everywhere, and its errors.
#include "gatewright/routing/router.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/version.h>

#include <cmath>

#include "gatewright/base/parallel.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/scorers/scorers.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

constexpr RouterSizes kSixteenByEight{.hidden_size = 16, .num_experts = 8};

/// Every registered selector with its settings, as far as a router of so many experts can have them.
std::vector<choice::Case> possible_cases(int64_t num_experts) {
  std::vector<choice::Case> result;
  for (choice::Case& c : choice::all_cases(num_experts)) {
    if (router_problems(spec_of("linear", c.name, c.given), num_experts).empty())
      result.push_back(std::move(c));
  }
  return result;
}

Router router_of(const RouterSpec& spec, const RouterSizes& sizes = kSixteenByEight, uint64_t seed = 1) {
  RandomStream random(seed, "router");
  return Router(spec, sizes, random);
}

std::vector<Piece> all_balance_terms() {
  std::vector<Piece> terms;
  for (const std::string& name : general_terms()) {
    Given given;
    if (name == "chunk_sparsity") given["chunk"] = int64_t{1};      // for sequences of any length
    if (name == "expert_budget") given["experts_per_token"] = 0.0;  // for any selector
    terms.push_back(make_piece(balance_terms(), name, given));
  }
  return terms;
}

TEST(Router, OfPlainPiecesIsComputedByHand) {
  Router router(std::make_unique<Echo>(), std::make_unique<choice::TopK>(2), choice::Activation::kSoftmax,
                {.weighting = choice::Weighting::kRenormalised, .scale = 2});
  const float ln2 = std::log(2.0f), ln4 = std::log(4.0f), ln5 = std::log(5.0f);
  // Probabilities 1/8, 2/8, 5/8 and 4/6, 1/6, 1/6.
  const RoutingRecord record = router.route(tensor({0, ln2, ln5, ln4, 0, 0}, {2, 3}), {.layer = 4});
  EXPECT_EQ(record.layer, 4);
  const choice::Pairs pairs = to_pairs(record.assignment);
  EXPECT_EQ(pairs.expert_begin, (std::vector<int64_t>{0, 1, 3, 4}));
  EXPECT_EQ(pairs.token, (std::vector<int64_t>{1, 0, 1, 0}));
  const std::vector<float> weight = to_floats(record.assignment.weight);
  EXPECT_FLOAT_EQ(weight[0], 2 * 4.0f / 5);
  EXPECT_FLOAT_EQ(weight[1], 2 * 2.0f / 7);
  EXPECT_FLOAT_EQ(weight[2], 2 * 1.0f / 5);
  EXPECT_FLOAT_EQ(weight[3], 2 * 5.0f / 7);
  const std::vector<float> margin = margins(record);
  EXPECT_FLOAT_EQ(margin[0], 1.0f / 8);
  EXPECT_FLOAT_EQ(margin[1], 0);
  EXPECT_TRUE(record.balance.empty());
  EXPECT_FALSE(record.loss.defined());
}

TEST(Router, RoutesWithEveryScorerAndSelectorByName) {
  RandomStream random(1, "hidden");
  const Tensor hidden = normals({60, 16}, random);
  for (const std::string& scorer : scorers().names()) {
    for (const choice::Case& c : possible_cases(8)) {
      RouterSpec spec = spec_of(scorer, c.name, c.given);
      spec.balance = all_balance_terms();
      Router router = router_of(spec);
      RandomStream draws(2, "draws");
      const RoutingRecord record =
          router.route(hidden, {.training = true, .token_ids = at::arange(60, at::kLong), .random = &draws});
      EXPECT_NO_THROW(validate(record.assignment, scorer + " and " + c.text()));
      EXPECT_EQ(record.assignment.num_tokens, 60);
      EXPECT_EQ(record.assignment.num_experts(), 8);
      EXPECT_EQ(margins(record).size(), 60u);
      EXPECT_EQ(record.balance.size(), spec.balance.size());
      router.end_step();
    }
  }
}

TEST(Router, OfAnEmptyBatchRoutesNothing) {
  for (const choice::Case& c : possible_cases(8)) {
    RouterSpec spec = spec_of("linear", c.name, c.given);
    spec.balance = all_balance_terms();
    RandomStream draws(2, "draws");
    Router router = router_of(spec);
    const RoutingRecord record = router.route(at::zeros({0, 16}), {.training = true, .random = &draws});
    EXPECT_EQ(record.assignment.num_pairs(), 0) << c.text();
    EXPECT_EQ(record.assignment.num_experts(), 8) << c.text();
    EXPECT_FALSE(record.loss.defined());
  }
}

TEST(Router, WithOneExpertSendsTokensThereOrNowhere) {
  RandomStream random(9, "hidden");
  const Tensor hidden = normals({20, 16}, random);
  for (const choice::Case& c : possible_cases(1)) {
    RouterSpec spec = spec_of("linear", c.name, c.given);
    spec.weights.weighting = choice::Weighting::kRenormalised;
    spec.balance = all_balance_terms();
    Router router = router_of(spec, {.hidden_size = 16, .num_experts = 1});
    RandomStream draws(2, "draws");
    const RoutingRecord record = router.route(hidden, {.training = true, .random = &draws});
    EXPECT_NO_THROW(validate(record.assignment, c.text()));
    for (float w : to_floats(record.assignment.weight)) EXPECT_FLOAT_EQ(w, 1) << c.text();
    EXPECT_TRUE(std::isfinite(record.loss.item<double>())) << c.text();
  }
}

TEST(Router, HasFiniteGradientsBesideOmittedExperts) {
  RandomStream random(10, "hidden");
  const Tensor hidden = normals({50, 16}, random);
  for (const choice::Case& c : possible_cases(8)) {
    for (choice::Activation activation :
         {choice::Activation::kSoftmax, choice::Activation::kSigmoid, choice::Activation::kIdentity}) {
      for (choice::Weighting weighting : {choice::Weighting::kAsIs, choice::Weighting::kSoftmaxChosen}) {
        RouterSpec spec = spec_of("linear", c.name, c.given);
        spec.activation = activation;
        spec.weights.weighting = weighting;
        spec.decorators = {
            make_piece(scorer_decorators(), "omit", {{"experts", std::vector<int64_t>{0, 5}}})};
        spec.balance = all_balance_terms();
        if (!router_problems(spec, 8).empty()) continue;  // relu with softmax
        Router router = router_of(spec);
        RandomStream draws(2, "draws");
        const RoutingRecord record = router.route(hidden, {.training = true, .random = &draws});
        const std::vector<float> counts = to_floats(expert_counts(record.assignment));
        EXPECT_EQ(counts[0] + counts[5], 0) << c.text();
        (record.assignment.weight.sum() + record.loss).backward();
        ParameterList parameters;
        router.collect(parameters, "gate");
        EXPECT_TRUE(at::isfinite(parameters[0].tensor.grad()).all().item<bool>()) << c.text();
      }
    }
  }
}

TEST(Router, GivesTheSameBitsWithAnyNumberOfThreads) {
  RandomStream random(11, "hidden");
  const Tensor logits = normals({1500, 64}, random);
  at::get_num_threads();  // LibTorch sets the threads at its first use
  const int before = num_threads();
  for (const choice::Case& c : choice::all_cases(64)) {
    std::vector<RoutingRecord> records;
    std::vector<Tensor> gradients;
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      Router router(std::make_unique<Echo>(), c.make(), choice::Activation::kSoftmax,
                    {.weighting = choice::Weighting::kRenormalised});
      RandomStream draws(2, "draws");
      const Tensor input = leaf(logits);
      records.push_back(router.route(input, {.training = true, .random = &draws}));
      const Tensor w = records.back().assignment.weight;
      (w * w).sum().backward();
      gradients.push_back(input.grad());
    }
    EXPECT_TRUE(at::equal(records[0].assignment.token, records[1].assignment.token)) << c.text();
    EXPECT_TRUE(at::equal(records[0].assignment.expert_begin, records[1].assignment.expert_begin))
        << c.text();
    EXPECT_TRUE(at::equal(records[0].assignment.weight, records[1].assignment.weight)) << c.text();
    EXPECT_TRUE(at::equal(gradients[0], gradients[1])) << c.text();
  }
  set_num_threads(before);
}

TEST(Router, NamesItsBalanceTermsAndAddsThemWithTheirWeights) {
  RouterSpec spec = spec_of("linear", "top_k");
  spec.balance = {make_piece(balance_terms(), "switch", {{"weight", 0.5}}),
                  make_piece(balance_terms(), "z_loss",
                             {{"weight", 0.1}, {"final_weight", 0.3}, {"over_steps", int64_t{10}}}),
                  make_piece(balance_terms(), "loss_free_bias")};
  Router router = router_of(spec);
  RandomStream random(3, "hidden");
  const RoutingRecord record = router.route(normals({50, 16}, random), {.training = true, .step = 5});
  ASSERT_EQ(record.balance.size(), 3u);
  EXPECT_EQ(record.balance[0].name, "switch");
  EXPECT_EQ(record.balance[0].weight, 0.5);
  EXPECT_EQ(record.balance[1].name, "z_loss");
  EXPECT_DOUBLE_EQ(record.balance[1].weight, 0.2) << "half way from 0.1 to 0.3";
  EXPECT_EQ(record.balance[2].name, "loss_free_bias");
  EXPECT_FALSE(record.balance[2].value.defined());
  EXPECT_FALSE(record.balance[0].value.requires_grad());
  const double sum =
      0.5 * record.balance[0].value.item<double>() + 0.2 * record.balance[1].value.item<double>();
  EXPECT_NEAR(record.loss.item<double>(), sum, 1e-5);
  EXPECT_TRUE(record.loss.requires_grad());
}

TEST(Router, CarriesTheGradientOfTheWeightsToItsParameters) {
  RandomStream random(4, "hidden");
  const Tensor hidden = normals({20, 16}, random);
  for (choice::Weighting weighting :
       {choice::Weighting::kAsIs, choice::Weighting::kRenormalised, choice::Weighting::kSoftmaxChosen}) {
    RouterSpec spec = spec_of("linear", "top_k");
    spec.weights.weighting = weighting;
    spec.balance = {make_piece(balance_terms(), "switch", {{"weight", 1.0}})};
    Router router = router_of(spec);
    ParameterList parameters;
    router.collect(parameters, "gate");
    Tensor weight = parameters[0].tensor, data = weight.detach();
    Tensor direction;
    const auto loss = [&] {
      const RoutingRecord record = router.route(hidden, {});
      if (!direction.defined()) direction = normals(record.assignment.weight.sizes(), random);
      return (record.assignment.weight * direction).sum() + record.loss;
    };
    loss().backward();
    const Tensor way = normals(data.sizes(), random), original = data.clone();
    constexpr double kStep =
        1e-3;  // small enough that no token changes its experts, which the check below shows
    const choice::Pairs before = to_pairs(router.route(hidden, {}).assignment);
    const auto at = [&](double s) {
      data.copy_(original + way * s);
      const double y = loss().item<double>();
      EXPECT_EQ(to_pairs(router.route(hidden, {}).assignment).token, before.token);
      return y;
    };
    const double slope = (at(kStep) - at(-kStep)) / (2 * kStep);
    EXPECT_NEAR((weight.grad() * way).sum().item<double>(), slope, 2e-2 * (1 + std::abs(slope)));
  }
}

TEST(Router, RoutesBfloat16InFloat32) {
  RandomStream random(5, "hidden");
  const Tensor hidden = normals({40, 16}, random).to(at::kBFloat16);
  Router router = router_of(spec_of("linear", "top_k"));
  const RoutingRecord record = router.route(hidden, {});
  EXPECT_EQ(record.scores.logits.scalar_type(), at::kFloat);
  EXPECT_EQ(record.assignment.weight.scalar_type(), at::kFloat);
  const Tensor input = leaf(hidden);
  router.route(input, {}).assignment.weight.sum().backward();
  EXPECT_EQ(input.grad().scalar_type(), at::kBFloat16);
  const RoutingRecord same = router.route(hidden.to(at::kFloat), {});
  EXPECT_TRUE(at::equal(record.scores.logits, same.scores.logits));
}

void set_cpu_autocast(bool on) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  at::autocast::set_autocast_enabled(at::kCPU, on);
#else
  at::autocast::set_cpu_enabled(on);
#endif
  at::autocast::clear_cache();
}

TEST(Router, StaysInFloat32UnderAutocast) {
  RandomStream random(6, "hidden");
  const Tensor hidden = normals({40, 16}, random);
  RouterSpec spec = spec_of("linear", "top_k");
  spec.balance = all_balance_terms();
  Router router = router_of(spec);
  const RoutingRecord plain = router.route(hidden, {});
  set_cpu_autocast(true);
  const bool really = at::mm(hidden, hidden.t()).scalar_type() != at::kFloat;
  const RoutingRecord record = router.route(hidden, {});
  set_cpu_autocast(false);
  EXPECT_TRUE(really) << "autocast changes products around the router";
  EXPECT_EQ(record.scores.logits.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(record.scores.logits, plain.scores.logits));
  EXPECT_TRUE(at::equal(record.assignment.weight, plain.assignment.weight));
  EXPECT_EQ(record.loss.item<double>(), plain.loss.item<double>());
}

TEST(Router, PutsDecoratorsAroundItsPieces) {
  RandomStream random(7, "hidden");
  const Tensor hidden = normals({80, 16}, random);
  RouterSpec spec = spec_of("linear", "top_k");
  spec.decorators = {
      make_piece(choice::selector_decorators(), "capacity", {{"factor", 1.0}}),
      make_piece(scorer_decorators(), "omit", {{"experts", std::vector<int64_t>{2}}}),
      make_piece(choice::selector_decorators(), "force", {{"experts", std::vector<int64_t>{5}}})};
  Router router = router_of(spec);
  const RoutingRecord record = router.route(hidden, {});
  const std::vector<float> counts = to_floats(expert_counts(record.assignment));
  EXPECT_EQ(counts[2], 0) << "omitted";
  EXPECT_EQ(counts[5], 20) << "forced for all 80 tokens, and cut to the capacity of 160 pairs / 8 experts";
  for (float c : counts) EXPECT_LE(c, 20);
}

TEST(Router, WithALossFreeBiasEvensOutTheLoad) {
  RandomStream random(8, "hidden");
  const Tensor hidden = normals({400, 16}, random) + 0.5;
  RouterSpec spec = spec_of("linear", "top_k");
  spec.activation = choice::Activation::kSigmoid;
  spec.balance = {make_piece(balance_terms(), "loss_free_bias", {{"rate", 0.002}})};
  Router router = router_of(spec);
  const auto imbalance = [&] { return load_imbalance(expert_counts(router.route(hidden, {}).assignment)); };
  const double before = imbalance();
  for (int step = 0; step < 400; ++step) {
    router.route(hidden, {.training = true});
    router.end_step();
  }
  EXPECT_GT(before, 0.3);
  EXPECT_LT(imbalance(), before / 8);
}

TEST(Router, NamesTheLayerOfDamagedInput) {
  Router router = router_of(spec_of("linear", "top_k"));
  Tensor hidden = at::zeros({3, 16});
  hidden[1][4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(error_of([&] { router.route(hidden, {.layer = 11}); }),
            "layer 11: the router's score of token 1 for expert 0 is not a number; the layer's input or the "
            "router's weights are damaged");
  EXPECT_EQ(error_of([&] {
              router.route(at::zeros({2, 3, 16}), {.layer = 1});
            }),
            "layer 1: the router expects hidden states [T, H], got 3 axes");
  EXPECT_EQ(error_of([&] {
              router.route(at::zeros({2, 8}), {.layer = 1});
            }),
            "layer 1: the router reads hidden states of width 16, got 8");
}

struct Flat final : Scorer {
  Tensor logits(const Tensor& hidden, const RoutingContext&) override { return hidden.sum(-1); }
  void collect(ParameterList&, const std::string&) const override {}
};

TEST(Router, RefusesLogitsThatAreNotATable) {
  Router router(std::make_unique<Flat>(), std::make_unique<choice::TopK>(1));
  EXPECT_EQ(error_of([&] {
              router.route(at::zeros({5, 4}), {.layer = 2});
            }),
            "layer 2: the scorer must give logits [T, E] for 5 tokens, got 1 axes and 5 values");
}

TEST(Router, ListsItsParametersUnderThePrefix) {
  RouterSpec spec = spec_of("linear", "top_k");
  spec.balance = {make_piece(balance_terms(), "loss_free_bias")};
  ParameterList list;
  router_of(spec).collect(list, "model.layers.3.mlp.gate");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].name, "model.layers.3.mlp.gate.weight");
  EXPECT_EQ(list[1].name, "model.layers.3.mlp.gate.e_score_correction_bias");
}

}  // namespace
}  // namespace gatewright

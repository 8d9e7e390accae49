// BlockFFN (Song et al. 2025): ReLU routing with a normalised score, losses for sparsity in chunks, the union
// path and the verification of drafted trees, as docs/methods/blockffn.md describes them.
#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/evaluate/draft_tree.h"
#include "gatewright/experts/ffn_function.h"
#include "gatewright/experts/registry.h"
#include "gatewright/experts/union_ffn.h"
#include "gatewright/routing/balance/chunk_sparsity.h"
#include "gatewright/routing/sparsity.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

constexpr auto kReluRms = choice::Activation::kReluRms;

RouterSpec blockffn_spec() {
  RouterSpec spec = spec_of("linear", "relu");
  spec.activation = kReluRms;
  return spec;
}

TEST(BlockFfn, HasTheDefaultsOfThePaper) {
  const Values locality = make_piece(balance_terms(), "activation_locality").values;
  EXPECT_EQ(locality.number("weight"), 2e-3);
  EXPECT_EQ(locality.number("steepness"), 100);
  EXPECT_EQ(locality.text("over_layers"), "mean");
  const Values sparsity = make_piece(balance_terms(), "chunk_sparsity").values;
  EXPECT_EQ(sparsity.number("weight"), 5e-2);
  EXPECT_EQ(sparsity.integer("chunk"), 64);
  EXPECT_EQ(sparsity.integer("stable"), 1000);
  EXPECT_EQ(sparsity.integer("window"), 100);
  EXPECT_EQ(sparsity.number("min_factor"), 1.025);
  EXPECT_EQ(sparsity.number("max_factor"), 4);
  EXPECT_EQ(sparsity.text("over_layers"), "mean");
}

TEST(BlockFfn, ScoresAreNormalisedByTheirRootMeanSquare) {
  const Tensor n = activate(kReluRms, tensor({3, -1, 4, 0}, {1, 4}));  // mean square 25 / 4
  EXPECT_LT(difference(n, tensor({1.2f, 0, 1.6f, 0}, {1, 4})), 1e-5);
  std::vector<float> row(4);
  choice::activate_row(kReluRms, std::vector<float>{3, -1, 4, 0}, row);
  EXPECT_LT(difference(tensor(row, {1, 4}), n), 1e-6);
}

TEST(BlockFfn, WithAllRawNegativeTheScoreIsZeroAndNothingIsNan) {
  const Tensor raw = leaf(tensor({-1, -2, -0.5f, -3}, {2, 2}));
  const Tensor n = activate(kReluRms, raw);
  EXPECT_EQ(n.abs().max().item<double>(), 0);
  const Scores scores = scores_of(raw, kReluRms);
  (n.sum() + distribution(scores).sum()).backward();
  EXPECT_EQ(raw.grad().abs().max().item<double>(), 0);
  RandomStream random(1, "router");
  Router router(blockffn_spec(), {.hidden_size = 4, .num_experts = 3}, random);
  const RoutingRecord record = router.route(at::zeros({5, 4}), {.training = true});
  EXPECT_EQ(record.assignment.num_pairs(), 0);
  const auto bank = make_expert_bank(make_piece(expert_banks(), "silu", {{"width", int64_t{4}}}), {},
                                     {.hidden_size = 4, .num_experts = 3}, random);
  EXPECT_EQ(bank->forward(at::ones({5, 4}), record.assignment).abs().max().item<double>(), 0);
}

TEST(BlockFfn, ScalingRawLeavesTheScoreAndTheSparsity) {
  RandomStream random(2, "raw");
  const Tensor raw = normals({40, 16}, random);
  EXPECT_LT(difference(activate(kReluRms, raw * 10), activate(kReluRms, raw)), 1e-4);
  EXPECT_EQ(token_level_sparsity(raw * 10 > 0), token_level_sparsity(raw > 0));
}

TEST(BlockFfn, AnExpertIsActiveExactlyWhereRawIsPositiveAndWeighsScoreTimesGain) {
  RandomStream random(3, "router");
  Router router(blockffn_spec(), {.hidden_size = 6, .num_experts = 4}, random);
  ParameterList parameters;
  router.collect(parameters, "model.layers.0.mlp.gate");
  ASSERT_EQ(parameters.size(), 2u);
  EXPECT_EQ(parameters[1].name, "model.layers.0.mlp.router_norm.weight");
  EXPECT_TRUE(at::equal(parameters[1].tensor, at::ones({4}))) << "g begins with 1";
  {
    const at::NoGradGuard no_grad;
    parameters[1].tensor.copy_(tensor({2, -1, 0.5f, 1}, {4}));
  }
  const Tensor hidden = normals({30, 6}, random), raw = hidden.mm(parameters[0].tensor.t());
  const RoutingRecord record = router.route(hidden, {});
  EXPECT_TRUE(at::equal(activation_pattern(record.assignment), raw > 0)) << "a negative g is active too";
  const Tensor score = activate(kReluRms, raw) * parameters[1].tensor;
  const Tensor cell = record.assignment.token * 4 + expert_of_pairs(record.assignment);
  EXPECT_LT(difference(record.assignment.weight, score.reshape({-1}).index_select(0, cell)), 1e-6);
  record.assignment.weight.sum().backward();
  EXPECT_GT(parameters[1].tensor.grad().abs().max().item<double>(), 0);
  const Tensor p = distribution(record.scores), n = activate(kReluRms, raw);
  EXPECT_LT(difference(p, n / (n.sum(-1, true) + 1e-5)), 1e-6) << "without g";
}

TEST(ChunkSparsity, IsComputedByHand) {
  const Tensor p = at::tensor({0.5, 0.5, 1.0, 0.0}, at::kDouble).view({2, 2});
  EXPECT_NEAR(chunk_sparsity_loss(p, 2).item<double>(), 0.749990, 1e-6);
  EXPECT_NEAR(chunk_sparsity_loss(at::zeros({8, 3}), 8).item<double>(), 0, 1e-4);
}

TEST(ChunkSparsity, LiesBetweenZeroAndOneAndLeavesMaskedTokensOut) {
  RandomStream random(4, "p");
  const Tensor p = at::softmax(normals({32, 8}, random) * 3, -1);
  const double loss = chunk_sparsity_loss(p, 8).item<double>();
  EXPECT_GT(loss, 0);
  EXPECT_LT(loss, 1);
  const Tensor real = at::arange(32).remainder(4) != 3;
  Tensor changed = p.clone();
  changed.masked_fill_(real.logical_not().unsqueeze(-1), 0.125f);
  EXPECT_EQ(chunk_sparsity_loss(p, 8, real).item<double>(),
            chunk_sparsity_loss(changed, 8, real).item<double>());
  EXPECT_NE(chunk_sparsity_loss(p, 8).item<double>(), chunk_sparsity_loss(changed, 8).item<double>());
}

TEST(ActivationLocality, OfSaturatedNeighboursIsZeroOrTheirSteepness) {
  const Tensor all = at::ones({1}, at::kBool);
  EXPECT_LT(activation_locality_loss(tensor({0.4f, -0.4f, 0.4f, -0.4f}, {2, 2}), all).item<double>(), 1e-6);
  EXPECT_NEAR(activation_locality_loss(tensor({0.4f, -0.4f, -0.4f, 0.4f}, {2, 2}), all).item<double>(), 40,
              1e-3)
      << "100 x 0.4";
}

TEST(ActivationLocality, ATokenThatBeginsADocumentIsAPredecessorOnly) {
  RandomStream random(5, "raw");
  // Documents {0, 1}, {2, 3, 4}; token 2 begins the second.
  const Tensor first_key = at::tensor({0, 0, 2, 2, 2}, at::kInt);
  const Tensor follows = follows_predecessor(5, 1, first_key, {}, at::kCPU);
  EXPECT_EQ(to_floats(follows), (std::vector<float>{1, 0, 1, 1}));
  EXPECT_EQ(to_floats(follows_predecessor(4, 2, {}, {}, at::kCPU)), (std::vector<float>{1, 0, 1}));
  const Tensor real = at::tensor({1, 1, 1, 1, 0}, at::kInt).to(at::kBool);
  EXPECT_EQ(to_floats(follows_predecessor(5, 1, first_key, real, at::kCPU)),
            (std::vector<float>{1, 0, 1, 0}));
  const Tensor raw = leaf(normals({5, 3}, random) * 0.02);
  activation_locality_loss(raw, follows).backward();
  const Tensor whole = raw.grad().clone();
  const Tensor only_as_predecessor = leaf(raw);
  activation_locality_loss(only_as_predecessor.slice(0, 2, 4), at::ones({1}, at::kBool)).backward();
  EXPECT_LT(difference(whole[2], only_as_predecessor.grad()[2] / 3), 1e-5) << "one of three pairs";
  EXPECT_GT(whole[2].abs().max().item<double>(), 0);
}

TEST(ActivationLocality, LetsTheGradientIntoBothTokens) {
  RandomStream random(6, "raw");
  const Tensor raw = normals({6, 3}, random).to(at::kDouble), follows = at::ones({5}, at::kBool);
  const auto f = [&](const Tensor& x) { return activation_locality_loss(x, follows, 3); };
  EXPECT_LT(difference(gradient(raw, f), slopes(raw, f)), 1e-7);
}

TEST(Sparsity, OfChunksOfOneIsThatOfTokensAndFallsWithTheirLength) {
  RandomStream random(7, "active");
  const Tensor active = normals({64, 10}, random) > 1;
  EXPECT_EQ(chunk_level_sparsity(active, 1), token_level_sparsity(active));
  EXPECT_NEAR(token_level_sparsity(active), 1 - active.to(at::kDouble).mean().item<double>(), 1e-12);
  double before = 1;
  for (int64_t chunk : {1, 2, 4, 8, 16}) {
    EXPECT_LE(chunk_level_sparsity(active, chunk), before);
    before = chunk_level_sparsity(active, chunk);
  }
  EXPECT_EQ(chunk_level_sparsity(tensor({1, 0, 0, 0, 0, 0, 0, 1, 1, 1}, {5, 2}) > 0, 2), 0.5)
      << "chunks use {0} and {1}; the fifth token is left out";
  EXPECT_EQ(error_of([&] { chunk_level_sparsity(active, 65); }),
            "the sparsity of chunks of 65 tokens needs at least as many, got 64");
}

TEST(UnionOfExperts, GivesWhatAllExpertsGive) {
  RandomStream random(8, "experts");
  const auto values = [&](at::IntArrayRef shape) { return normals(shape, random).to(at::kDouble); };
  const Tensor x = values({9, 6}), up = values({12, 5, 6}), down = values({12, 6, 5});
  const Tensor score = values({9, 12}).clamp_min(1.0) - 1.0;
  const Tensor all = dense_silu_experts(x, score, up, down);
  for (const auto& [begin, end] : {std::pair(0, 9), std::pair(2, 3), std::pair(4, 8)}) {
    const Tensor some = union_silu_experts(x.slice(0, begin, end), score.slice(0, begin, end), up, down);
    EXPECT_LT(difference(some, all.slice(0, begin, end)), 1e-13);
  }
  const Tensor order = at::tensor({5, 0, 11, 3, 2, 9, 8, 1, 10, 4, 7, 6}, at::kLong);
  EXPECT_LT(difference(union_silu_experts(x, score.index_select(1, order), up.index_select(0, order),
                                          down.index_select(0, order)),
                       all),
            1e-13);
  EXPECT_EQ(union_silu_experts(x, at::zeros_like(score), up, down).abs().max().item<double>(), 0);
  const Scores scores = scores_of(score.to(at::kFloat));
  choice::Rows rows;
  for (int64_t t = 0; t < 9; ++t) {
    for (int32_t e = 0; e < 12; ++e) {
      if (score[t][e].item<double>() > 0) rows.expert.push_back(e);
    }
    rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
  }
  const Assignment assignment = make_assignment(choice::by_expert(rows, 12), score.to(at::kFloat));
  const Tensor by_bank = expert_ffn(x.to(at::kFloat), assignment,
                                    {.up = up.to(at::kFloat), .down = down.to(at::kFloat)}, Activation::silu);
  EXPECT_LT(difference(by_bank, all), 1e-4) << "the expert bank silu computes the same";
}

TEST(AdaptiveFactor, StaysUntilStableAndWhileLossesAreConstant) {
  AdaptiveFactor factor({.stable = 30, .window = 5, .min_factor = 1.025, .max_factor = 4});
  for (int step = 1; step <= 30; ++step) {
    EXPECT_EQ(factor.value(), 1) << step;
    factor.observe(0.1 * step);
  }
  EXPECT_GT(factor.value(), 1);
  AdaptiveFactor constant({.stable = 10, .window = 5});
  for (int step = 1; step <= 60; ++step) constant.observe(0.37);
  EXPECT_EQ(constant.value(), 1);
}

TEST(AdaptiveFactor, MovesLinearlyByTheRatioOfTheWindows) {
  AdaptiveFactor factor({.stable = 4, .window = 2, .min_factor = 1.5, .max_factor = 4});
  for (const double loss : {1.0, 1.0, 1.1, 1.1}) factor.observe(loss);
  EXPECT_NEAR(factor.value(), 1.25, 1e-6) << "half way to 1.5: the ratio 1.1 counts as min_factor";
  factor.observe(0.55);
  EXPECT_NEAR(factor.value(), 1.5, 1e-6);
  factor.observe(0.55);
  EXPECT_NEAR(factor.value(), 1.125, 1e-6) << "half way to 1.5 x 0.55 / 1.1 = 0.75";
}

TEST(AdaptiveFactor, NeverExceedsItsMaximumAndIsRestoredFromItsState) {
  const AdaptiveOptions options{.stable = 4, .window = 2, .min_factor = 1.025, .max_factor = 4};
  AdaptiveFactor factor(options), restored(options);
  double loss = 1;
  for (int step = 0; step < 41; ++step) {
    factor.observe(loss *= 1.3);
    EXPECT_LE(factor.value(), 4);
  }
  EXPECT_NEAR(factor.value(), 4, 1e-6);
  Tensor state = restored.state();
  state.copy_(factor.state());
  for (int step = 0; step < 9; ++step) {
    EXPECT_EQ(factor.value(), restored.value());
    factor.observe(1.0 / (step + 1));
    restored.observe(1.0 / (step + 1));
  }
  EXPECT_TRUE(at::equal(factor.state(), restored.state()));
}

TEST(VerifyTree, TakesTheDeepestPathThatTheModelAgreesWith) {
  const AcceptedPath path =
      verify_tree(std::vector<int32_t>{7, 3, 4, 5, 6, 8}, std::vector<int64_t>{-1, 0, 0, 1, 1, 3},
                  std::vector<int32_t>{3, 5, 9, 8, 2, 1});
  EXPECT_EQ(path.nodes, (std::vector<int64_t>{0, 1, 3, 5}));
  EXPECT_EQ(path.bonus, 1);
  const AcceptedPath none =
      verify_tree(std::vector<int32_t>{7, 3}, std::vector<int64_t>{-1, 0}, std::vector<int32_t>{9, 1});
  EXPECT_EQ(none.nodes, std::vector<int64_t>{0});
  EXPECT_EQ(none.bonus, 9);
  const AcceptedPath tie = verify_tree(std::vector<int32_t>{7, 3, 3}, std::vector<int64_t>{-1, 0, 0},
                                       std::vector<int32_t>{3, 5, 6});
  EXPECT_EQ(tie.nodes, (std::vector<int64_t>{0, 1})) << "of equal paths the lower node";
  EXPECT_EQ(
      error_of([] {
        verify_tree(std::vector<int32_t>{7, 3}, std::vector<int64_t>{-1, 1}, std::vector<int32_t>{3, 5});
      }),
      "the parent of node 1 must come before it, got 1");
}

TEST(BlockFfn, RefusesWhatMakesNoSense) {
  EXPECT_EQ(error_of([] {
              chunk_sparsity_loss(at::zeros({10, 2}), 4);
            }),
            "[chunk_sparsity] 10 tokens can't be cut into chunks of 4");
  const auto term = make_term("chunk_sparsity", {{"chunk", int64_t{4}}});
  const Scores scores = scores_of(at::zeros({12, 4}), kReluRms);
  EXPECT_EQ(error_of([&] {
              term->loss(scores, assign(scores, std::vector<std::vector<int32_t>>(12)),
                         {.layer = 3, .training = true, .num_sequences = 2});
            }),
            "layer 3: [chunk_sparsity] sequences of 6 tokens can't be cut into chunks of 4");
  EXPECT_TRUE(term->loss(scores, assign(scores, std::vector<std::vector<int32_t>>(12)), {.num_sequences = 2})
                  .defined())
      << "evaluation leaves the rest out";
  for (const char* name : {"activation_locality", "chunk_sparsity"})
    EXPECT_NE(error_of([&] {
                make_piece(balance_terms(), name, {{"weight", -0.1}});
              }).find("weight must be"),
              std::string::npos);
  RouterSpec spec = spec_of("linear", "top_p");
  spec.activation = kReluRms;
  EXPECT_EQ(router_problems(spec, 8),
            std::vector<std::string>{
                "top_p adds up probabilities until they exceed p, and activation = \"relu_rms\" gives "
                "none that sum to 1; use activation = \"softmax\", or selector = \"relu\""});
}

}  // namespace
}  // namespace gatewright

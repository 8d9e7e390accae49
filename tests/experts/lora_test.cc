// LoRA experts: their sum by hand, the frozen maps under them, gradients through routers and adapters.
#include "gatewright/experts/lora.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/experts/dropout.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/scorers/mixture.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

constexpr ExpertSizes kSizes{.hidden_size = 8, .num_experts = 4, .layer = 2};

Tensor random_values(at::IntArrayRef shape, uint64_t seed) {
  RandomStream random(seed, "values");
  return normals(shape, random);
}

Assignment two_experts_each(int64_t tokens, uint64_t seed) {
  const Scores scores = scores_of(random_values({tokens, 4}, seed));
  return weigh({.weighting = choice::Weighting::kRenormalised}, scores,
               choice::TopK(2).choose(rows_of(scores.probabilities), {}));
}

Tensor parameter(const ExpertBank& bank, const std::string& name) {
  ParameterList list;
  bank.collect(list, "mlp");
  for (const NamedTensor& p : list) {
    if (p.name == name) return p.tensor;
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

TEST(LoraDelta, IsComputedByHand) {
  // One token of (1, 2); expert 0 with weight 0.25 and expert 1 with 0.75, rank 1.
  const Assignment chosen{.expert_begin = at::tensor(std::vector<int64_t>{0, 1, 2, 2}, at::kLong),
                          .token = at::zeros({2}, at::kLong),
                          .weight = tensor({0.25f, 0.75f}, {2}),
                          .num_tokens = 1};
  const LoraWeights weights{.a = tensor({1, 1, 2, -1, 9, 9}, {3, 1, 2}), .b = tensor({4, 8, 7}, {3, 1, 1})};
  // A x = 3, 0, 27; 2 x (0.25 x 4 x 3 + 0.75 x 8 x 0)
  EXPECT_FLOAT_EQ(lora_delta(tensor({1, 2}, {1, 2}), chosen, weights, 2).item<float>(), 6);
}

TEST(LoraDelta, IsZeroForTokensWithoutAnExpert) {
  const Assignment none{.expert_begin = at::zeros({5}, at::kLong),
                        .token = at::zeros({0}, at::kLong),
                        .weight = at::zeros({0}),
                        .num_tokens = 3};
  const LoraWeights weights{.a = random_values({4, 2, 8}, 1), .b = random_values({4, 8, 2}, 2)};
  EXPECT_TRUE(at::equal(lora_delta(random_values({3, 8}, 3), none, weights, 1), at::zeros({3, 8})));
}

TEST(LoraExperts, BeginAsTheirFrozenFeedForward) {
  RandomStream random(1, "bank");
  LoraExperts bank(kSizes, {.width = 12, .init = 0.3}, random);
  const FfnTensors base{.gate = parameter(bank, "mlp.gate_proj.weight"),
                        .up = parameter(bank, "mlp.up_proj.weight"),
                        .down = parameter(bank, "mlp.down_proj.weight")};
  const Tensor x = random_values({6, 8}, 2);
  const Tensor plain = (at::silu(x.mm(base.gate.t())) * x.mm(base.up.t())).mm(base.down.t());
  for (uint64_t seed : {3, 4})
    EXPECT_TRUE(at::equal(bank.forward(x, two_experts_each(6, seed)), plain)) << "whatever the routing";
}

TEST(LoraExperts, TrainAdaptersAndNothingElse) {
  RandomStream random(1, "bank");
  LoraExperts bank(kSizes, {.width = 12, .adapters = {.rank = 2}, .init = 0.3}, random);
  parameter(bank, "mlp.moe_lora.experts.{}.up_proj.lora_B.weight").detach().fill_(0.1);
  bank.forward(random_values({6, 8}, 2), two_experts_each(6, 3)).square().sum().backward();
  ParameterList list;
  bank.collect(list, "mlp");
  ASSERT_EQ(list.size(), 9u);
  int64_t trainable = 0;
  for (const NamedTensor& p : list) {
    const bool adapter = p.name.find("lora_") != std::string::npos;
    EXPECT_EQ(p.trainable, adapter) << p.name;
    EXPECT_EQ(p.tensor.grad().defined(), adapter) << p.name;
    if (adapter) trainable += p.tensor.numel();
  }
  EXPECT_EQ(trainable, 4 * 3 * 2 * (12 + 8));
  EXPECT_EQ(bank.parameters_per_expert(), 3 * 2 * (12 + 8));
  EXPECT_EQ(bank.parameters_per_token(), 3 * 12 * 8);
  EXPECT_LE(parameter(bank, "mlp.moe_lora.experts.{}.up_proj.lora_A.weight").abs().max().item<double>(),
            1 / std::sqrt(8.0));
}

TEST(LoraExperts, AdaptOnlyTheMapsThatAreNamed) {
  RandomStream random(1, "bank");
  const Piece piece = make_piece(expert_banks(), "lora", {{"adapted", std::vector<std::string>{"gate"}}});
  const auto bank = expert_banks().at("lora").make(piece.values, kSizes, random);
  ParameterList list;
  bank->collect(list, "mlp");
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[3].name, "mlp.moe_lora.experts.{}.gate_proj.lora_A.weight");
}

TEST(LoraExperts, DropTheirInputInTrainingOnly) {
  RandomStream random(1, "bank");
  LoraExperts bank(kSizes, {.width = 12, .adapters = {.dropout = 0.5}, .init = 0.3}, random);
  parameter(bank, "mlp.moe_lora.experts.{}.down_proj.lora_B.weight").detach().fill_(0.1);
  const Tensor x = random_values({6, 8}, 2);
  const Assignment chosen = two_experts_each(6, 3);
  RandomStream draws(5, "draws");
  const Tensor in_use = bank.forward(x, chosen);
  EXPECT_TRUE(at::equal(in_use, bank.forward(x, chosen, {.training = false, .random = &draws})));
  EXPECT_FALSE(at::equal(in_use, bank.forward(x, chosen, {.training = true, .random = &draws})));
  EXPECT_EQ(error_of([&] { bank.forward(x, chosen, {.training = true}); }),
            "dropout needs a random stream in training");
}

TEST(Dropout, KeepsTheMean) {
  RandomStream draws(5, "draws");
  const Tensor x = at::ones({200, 50});
  const Tensor dropped = dropout(x, 0.25, {.training = true, .random = &draws});
  EXPECT_NEAR((dropped == 0).to(at::kDouble).mean().item<double>(), 0.25, 0.02);
  EXPECT_NEAR(dropped.max().item<double>(), 4.0 / 3, 1e-6);
  EXPECT_TRUE(at::equal(dropout(x, 0, {.training = true}), x));
}

TEST(LoraExperts, RefuseBadSizes) {
  RandomStream random(1, "bank");
  EXPECT_EQ(error_of([&] { LoraExperts(kSizes, {.adapters = {.rank = 0}}, random); }),
            "[lora] rank must be at least 1, got 0");
  EXPECT_EQ(error_of([&] { LoraExperts(kSizes, {.adapted = {"query"}}, random); }),
            "[lora] adapted may name gate, up, down, q, k, v, o, got \"query\"");
}

TEST(MixtureOfRouters, HasTheGradientOfTheOutputForEveryRouter) {
  // y of one adapted map in float64, with each token's two experts held fixed.
  const auto values = [](at::IntArrayRef shape, uint64_t seed) {
    return random_values(shape, seed).to(at::kDouble);
  };
  const Tensor x = values({5, 6}, 1), direction = values({5, 7}, 2);
  const LoraWeights lora{.a = values({4, 2, 6}, 3), .b = values({4, 7, 2}, 4)};
  const Tensor sub = values({3, 4, 6}, 5), main = values({3, 6}, 6);
  const auto joint = [&](const Tensor& s, const Tensor& m) {
    const Tensor logits = x.mm(s.flatten(0, 1).t()).view({5, 3, 4});
    return at::softmax(mixture_logits(logits, main_log_weights(x.mm(m.t()), 0), MixtureLevel::kProbabilities),
                       -1);
  };
  const Tensor mask = at::zeros({5, 4}, at::kDouble).scatter(-1, std::get<1>(joint(sub, main).topk(2)), 1.0);
  const Tensor cells = mask.t().nonzero();  // by expert, then token
  const Tensor begin = at::cat({at::zeros({1}, at::kLong), mask.sum(0).to(at::kLong).cumsum(0)});
  const auto y = [&](const Tensor& s, const Tensor& m) {
    const Tensor kept = joint(s, m) * mask, weight = kept / kept.sum(-1, true);
    const Assignment chosen{
        .expert_begin = begin,
        .token = cells.select(1, 1).contiguous(),
        .weight = weight.flatten().index_select(0, cells.select(1, 1) * 4 + cells.select(1, 0)),
        .num_tokens = 5};
    return (lora_delta(x, chosen, lora, 2) * direction).sum();
  };
  const auto of_sub = [&](const Tensor& s) { return y(s, main); };
  const auto of_main = [&](const Tensor& m) { return y(sub, m); };
  const Tensor a = slopes(sub, of_sub), b = slopes(main, of_main);
  EXPECT_LT(((gradient(sub, of_sub) - a).norm() / a.norm()).item<double>(), 1e-6);
  EXPECT_LT(((gradient(main, of_main) - b).norm() / b.norm()).item<double>(), 1e-6);
}

}  // namespace
}  // namespace gatewright

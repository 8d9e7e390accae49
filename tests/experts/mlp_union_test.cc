// A dense feed-forward as a union of experts (Union of Experts 2025).
#include "gatewright/experts/mlp_union.h"

#include <gmock/gmock.h>

#include "gatewright/experts/registry.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

constexpr int64_t kHidden = 6, kWidth = 12, kExperts = 4, kTokens = 10;

/// Every token visits every expert with a weight of 1.
Assignment all_experts(int64_t tokens, int64_t experts) {
  std::vector<int64_t> begin = {0}, token;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t t = 0; t < tokens; ++t) token.push_back(t);
    begin.push_back((e + 1) * tokens);
  }
  return {.expert_begin = at::tensor(begin, at::kLong),
          .token = at::tensor(token, at::kLong),
          .weight = at::ones({tokens * experts}),
          .num_tokens = tokens};
}

/// With random biases.
FfnTensors dense_of(Activation activation, at::ScalarType type) {
  RandomStream random(1, "dense");
  FfnTensors dense = make_ffn_parameters(
      0, kHidden, {.activation = activation, .width = kWidth, .biases = true, .init = 0.5}, random);
  for (Tensor* t :
       {&dense.gate, &dense.up, &dense.down, &dense.gate_bias, &dense.up_bias, &dense.down_bias}) {
    if (!t->defined()) continue;
    if (t->dim() == 1) *t = normals(t->sizes(), random);
    *t = t->detach().to(type).set_requires_grad(true);
  }
  return dense;
}

Tensor by_hand(const Tensor& x, const FfnTensors& d, Activation activation) {
  const Tensor up = at::addmm(d.up_bias, x, d.up.t());
  const Tensor h = activation == Activation::gelu     ? 0.5 * up * (1 + at::erf(up / std::sqrt(2.0)))
                   : activation == Activation::swiglu ? at::silu(at::addmm(d.gate_bias, x, d.gate.t())) * up
                                                      : at::relu(up);
  return at::addmm(d.down_bias, h, d.down.t());
}

TEST(MlpUnion, WithAllExpertsIsTheDenseFeedForward) {
  RandomStream random(2, "x");
  const Tensor x = normals({kTokens, kHidden}, random);
  for (const Activation activation : {Activation::gelu, Activation::relu, Activation::swiglu}) {
    for (const auto& [type, tolerance] : {std::pair(at::kDouble, 1e-12), std::pair(at::kFloat, 1e-5)}) {
      const FfnTensors dense = dense_of(activation, type);
      const Tensor input = x.to(type);
      const Tensor sum = mlp_union(input, all_experts(kTokens, kExperts), dense, activation);
      EXPECT_LT(difference(sum, by_hand(input, dense, activation)), tolerance);
    }
  }
}

TEST(MlpUnion, WithPermutedSlicesIsTheSame) {
  RandomStream random(2, "x");
  const Tensor x = normals({kTokens, kHidden}, random).to(at::kDouble);
  const FfnTensors dense = dense_of(Activation::gelu, at::kDouble);
  std::vector<int64_t> order;
  for (const int64_t slice : {2, 0, 3, 1}) {
    for (int64_t i = 0; i < kWidth / kExperts; ++i) order.push_back(slice * (kWidth / kExperts) + i);
  }
  const Tensor index = at::tensor(order, at::kLong);
  FfnTensors permuted = dense;
  permuted.up = dense.up.index_select(0, index);
  permuted.up_bias = dense.up_bias.index_select(0, index);
  permuted.down = dense.down.index_select(1, index);
  EXPECT_LT(difference(mlp_union(x, all_experts(kTokens, kExperts), permuted, Activation::gelu),
                       by_hand(x, dense, Activation::gelu)),
            1e-12);
}

TEST(MlpUnion, AddsTheOutputBiasOnceToTokensThatAreServed) {
  const FfnTensors dense = dense_of(Activation::gelu, at::kFloat);
  // Token 0 visits no expert, token 1 visits two, token 2 one.
  const Assignment some{.expert_begin = at::tensor(std::vector<int64_t>{0, 1, 2, 3, 3}, at::kLong),
                        .token = at::tensor(std::vector<int64_t>{1, 1, 2}, at::kLong),
                        .weight = at::ones({3}),
                        .num_tokens = 3};
  RandomStream random(3, "x");
  const Tensor x = normals({3, kHidden}, random), out = mlp_union(x, some, dense, Activation::gelu);
  FfnTensors no_bias = dense;
  no_bias.down_bias = Tensor();
  const Tensor bare = mlp_union(x, some, no_bias, Activation::gelu);
  EXPECT_EQ(out[0].abs().max().item<double>(), 0) << "the residual alone";
  EXPECT_LT(difference(out[1] - bare[1], dense.down_bias), 1e-5);
  EXPECT_LT(difference(out[2] - bare[2], dense.down_bias), 1e-5);
}

TEST(MlpUnion, HasTheGradientsOfTheDenseFeedForward) {
  RandomStream random(4, "x");
  const Tensor x = normals({kTokens, kHidden}, random);
  const FfnTensors a = dense_of(Activation::gelu, at::kFloat), b = dense_of(Activation::gelu, at::kDouble);
  mlp_union(x, all_experts(kTokens, kExperts), a, Activation::gelu).square().sum().backward();
  by_hand(x.to(at::kDouble), b, Activation::gelu).square().sum().backward();
  EXPECT_LT(difference(a.up.grad(), b.up.grad()), 1e-4);
  EXPECT_LT(difference(a.up_bias.grad(), b.up_bias.grad()), 1e-4);
  EXPECT_LT(difference(a.down.grad(), b.down.grad()), 1e-4);
  EXPECT_LT(difference(a.down_bias.grad(), b.down_bias.grad()), 1e-4);
}

std::unique_ptr<ExpertBank> bank_of(const Given& given, RandomStream& random) {
  return make_expert_bank(make_piece(expert_banks(), "mlp_union", given), {},
                          {.hidden_size = kHidden, .num_experts = kExperts}, random);
}

TEST(MlpUnion, IsStoredAsADenseLayerAndBeginsAsXavierHasIt) {
  RandomStream random(5, "bank");
  const auto bank = bank_of({{"width", int64_t{4000}}}, random);
  ParameterList list;
  bank->collect(list, "mlp");
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].name, "mlp.up_proj.weight");
  EXPECT_EQ(list[0].tensor.sizes(), (std::vector<int64_t>{4000, kHidden}));
  EXPECT_EQ(list[3].name, "mlp.down_proj.bias");
  EXPECT_EQ(list[3].tensor.abs().max().item<double>(), 0);
  const double expected = std::sqrt(2.0 / (kHidden + 1000));
  EXPECT_NEAR(list[0].tensor.square().mean().sqrt().item<double>(), expected, 0.02 * expected);
  EXPECT_EQ(bank->parameters_per_expert(), 1000 * (2 * kHidden + 1));
  EXPECT_EQ(bank->parameters_per_token(), kHidden);
  EXPECT_EQ(bank->flops_per_pair(), 2.0 * 2 * 1000 * kHidden);
}

TEST(MlpUnion, DropsOutInTrainingOnly) {
  RandomStream random(6, "bank");
  const auto bank = bank_of({{"width", int64_t{400}}, {"dropout", 0.5}}, random);
  const Tensor x = normals({200, kHidden}, random);
  const Assignment all = all_experts(200, kExperts);
  const Tensor whole = bank->forward(x, all);
  RandomStream draws(7, "dropout");
  const ExpertContext training{.training = true, .random = &draws};
  const Tensor a = bank->forward(x, all, training), b = bank->forward(x, all, training);
  EXPECT_NEAR((a == 0).to(at::kFloat).mean().item<double>(), 0.5, 0.05) << "half of the sums";
  EXPECT_FALSE(at::equal(a, b));
  EXPECT_TRUE(at::equal(bank->forward(x, all), whole));
  draws.seek(0);
  EXPECT_TRUE(at::equal(bank->forward(x, all, training), a));
}

TEST(MlpUnion, RefusesAWidthThatDoesNotDivide) {
  RandomStream random(8, "bank");
  EXPECT_EQ(error_of([&] {
              bank_of({{"width", int64_t{10}}}, random);
            }),
            "[mlp_union] a width of 10 cannot be cut into 4 equal experts; choose a number that divides it");
  EXPECT_THAT(error_of([] { union_slices(dense_of(Activation::gelu, at::kFloat), 5); }),
              HasSubstr("a width of 12 cannot be cut into 5"));
}

}  // namespace
}  // namespace gatewright

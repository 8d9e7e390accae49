#include "gatewright/experts/expert_bank.h"

#include <gtest/gtest.h>

#include "gatewright/base/parallel.h"
#include "gatewright/experts/ffn_function.h"
#include "gatewright/experts/registry.h"
#include "gatewright/experts/shared.h"

namespace gatewright {
namespace {

std::unique_ptr<ExpertBank> make_bank(const std::string& name, const std::map<std::string, Value>& given,
                                      const ExpertSizes& sizes, uint64_t seed = 1) {
  const auto& entry = expert_banks().at(name);
  RandomStream random(seed, "bank");
  return entry.make(Values(entry.spec.parameters, given, name), sizes, random);
}

/// Each of `tokens` tokens goes to each expert with probability 0.5, expert 1 to none.
Assignment random_assignment(int64_t tokens, int64_t experts, uint64_t seed) {
  RandomStream random(seed, "assignment");
  choice::Pairs pairs;
  pairs.num_tokens = tokens;
  pairs.expert_begin = {0};
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t t = 0; t < tokens; ++t) {
      if (e != 1 && random.uniform() < 0.5f) pairs.token.push_back(t);
    }
    pairs.expert_begin.push_back(static_cast<int64_t>(pairs.token.size()));
  }
  Tensor weight = at::empty({static_cast<int64_t>(pairs.token.size())}, at::kFloat);
  for (int64_t i = 0; i < weight.numel(); ++i) weight[i] = random.uniform() + 0.1f;
  return make_assignment_from_pair_weights(pairs, weight.set_requires_grad(true));
}

Tensor random_hidden(int64_t tokens, int64_t size, uint64_t seed) {
  RandomStream random(seed, "hidden");
  Tensor hidden = at::empty({tokens, size}, at::kFloat);
  float* values = hidden.data_ptr<float>();
  for (int64_t i = 0; i < hidden.numel(); ++i) values[i] = random.normal();
  return hidden.set_requires_grad(true);
}

Assignment in_double(const Assignment& a) {
  return {a.expert_begin, a.token, a.weight.detach().to(at::kDouble).set_requires_grad(true), a.num_tokens};
}

Tensor double_leaf(const Tensor& t) {
  return t.defined() ? t.detach().to(at::kDouble).set_requires_grad(true) : t;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0) return 0;
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs() / (1 + b.to(at::kDouble).abs())).max().item<double>();
}

TEST(ExpertBank, SwigluOfOneWeightIsComputedByHand) {
  // silu(2 x) * 3 x at x = 1 is 2 sigmoid(2) * 3; times the down weight 5 and the pair's weight 0.5.
  const FfnTensors ffn = {
      .gate = at::full({1, 1, 1}, 2.0f), .up = at::full({1, 1, 1}, 3.0f), .down = at::full({1, 1, 1}, 5.0f)};
  const Assignment one = make_assignment_from_pair_weights(
      {.num_tokens = 2, .expert_begin = {0, 1}, .token = {1}}, at::full({1}, 0.5f));
  const Tensor out = expert_ffn(at::ones({2, 1}), one, ffn, Activation::swiglu);
  EXPECT_EQ(out[0][0].item<float>(), 0.0f);
  EXPECT_NEAR(out[1][0].item<double>(), 0.5 * 5 * 3 * 2 / (1 + std::exp(-2.0)), 1e-5);
}

// The kernels against plain tensor operations in double precision, whose gradients are LibTorch's.
TEST(ExpertBank, GradientsAgreeWithTensorOperationsInDouble) {
  for (const Activation activation :
       {Activation::swiglu, Activation::gelu, Activation::relu, Activation::silu}) {
    for (const bool biases : {false, true}) {
      RandomStream random(3, "parameters");
      FfnTensors ffn = make_ffn_parameters(
          5, 24, {.activation = activation, .width = 40, .biases = biases, .init = 0.3}, random);
      const Assignment assignment = random_assignment(50, 5, 4);
      const Tensor hidden = random_hidden(50, 24, 5);
      const Tensor direction = random_hidden(50, 24, 6).detach();
      const Tensor out = expert_ffn(hidden, assignment, ffn, activation);
      (out * direction).sum().backward();

      const FfnTensors exact = {double_leaf(ffn.gate),    double_leaf(ffn.up),
                                double_leaf(ffn.down),    double_leaf(ffn.gate_bias),
                                double_leaf(ffn.up_bias), double_leaf(ffn.down_bias)};
      const Assignment exact_assignment = in_double(assignment);
      const Tensor exact_hidden = double_leaf(hidden);
      const Tensor exact_out = expert_ffn(exact_hidden, exact_assignment, exact, activation);
      (exact_out * direction).sum().backward();

      EXPECT_LT(largest_difference(out, exact_out), 1e-5);
      EXPECT_LT(largest_difference(hidden.grad(), exact_hidden.grad()), 1e-5);
      EXPECT_LT(largest_difference(assignment.weight.grad(), exact_assignment.weight.grad()), 1e-5);
      EXPECT_LT(largest_difference(ffn.up.grad(), exact.up.grad()), 1e-5);
      EXPECT_LT(largest_difference(ffn.down.grad(), exact.down.grad()), 1e-5);
      if (ffn.gate.defined()) {
        EXPECT_LT(largest_difference(ffn.gate.grad(), exact.gate.grad()), 1e-5);
      }
      if (!biases) continue;
      EXPECT_LT(largest_difference(ffn.up_bias.grad(), exact.up_bias.grad()), 1e-5);
      EXPECT_LT(largest_difference(ffn.down_bias.grad(), exact.down_bias.grad()), 1e-5);
      if (ffn.gate.defined()) {
        EXPECT_LT(largest_difference(ffn.gate_bias.grad(), exact.gate_bias.grad()), 1e-5);
      }
    }
  }
}

TEST(ExpertBank, RecomputingActivationsChangesNoBit) {
  const Assignment assignment = random_assignment(40, 3, 7);
  std::vector<Tensor> grads;
  for (const bool recompute : {false, true}) {
    const auto bank = make_bank("swiglu", {{"width", int64_t{16}}, {"recompute", recompute}}, {8, 3, 0});
    const Tensor hidden = random_hidden(40, 8, 8);
    bank->forward(hidden, assignment).square().sum().backward();
    ParameterList parameters;
    bank->collect(parameters, "mlp");
    grads.push_back(at::cat({hidden.grad().flatten(), parameters[0].tensor.grad().flatten()}));
  }
  EXPECT_TRUE(at::equal(grads[0], grads[1]));
}

TEST(ExpertBank, NamesItsParametersAsCheckpointsDo) {
  const auto bank = make_bank("swiglu", {{"width", int64_t{16}}, {"biases", true}}, {8, 3, 0});
  ParameterList parameters;
  bank->collect(parameters, "model.layers.2.mlp");
  ASSERT_EQ(parameters.size(), 6u);
  EXPECT_EQ(parameters[0].name, "model.layers.2.mlp.experts.{}.gate_proj.weight");
  EXPECT_EQ(parameters[0].tensor.sizes(), (at::IntArrayRef{3, 16, 8}));
  EXPECT_EQ(parameters[2].tensor.sizes(), (at::IntArrayRef{3, 8, 16}));
  EXPECT_FALSE(parameters[5].weight_decay);
  EXPECT_EQ(bank->flops_per_pair(), 2.0 * 3 * 8 * 16);
  EXPECT_EQ(bank->parameters_per_expert(), 3 * 8 * 16 + 16 + 16 + 8);
}

TEST(ExpertBank, StartsTheSameWhateverTheThreads) {
  const int before = num_threads();
  std::vector<Tensor> weights;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    ParameterList parameters;
    make_bank("relu", {{"width", int64_t{300}}}, {64, 2, 0})->collect(parameters, "mlp");
    weights.push_back(parameters[0].tensor);
  }
  set_num_threads(before);
  EXPECT_TRUE(at::equal(weights[0], weights[1]));
  EXPECT_NEAR(weights[0].std().item<double>(), 0.02, 0.001);
}

TEST(ExpertBank, WorksInBfloat16) {
  const auto bank = make_bank("swiglu", {{"width", int64_t{32}}, {"init", 0.2}}, {16, 4, 0});
  const Assignment assignment = random_assignment(30, 4, 9);
  const Tensor hidden = random_hidden(30, 16, 10);
  const Tensor half = hidden.detach().to(at::kBFloat16).set_requires_grad(true);
  const Tensor out = bank->forward(half, assignment);
  ASSERT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_LT(largest_difference(out, bank->forward(hidden, assignment)), 0.03);
  out.sum().backward();
  ParameterList parameters;
  bank->collect(parameters, "mlp");
  EXPECT_EQ(half.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(parameters[0].tensor.grad().scalar_type(), at::kFloat);  // the leaf's own type
}

TEST(ExpertBank, OfNoTokensGivesNoTokens) {
  const auto bank = make_bank("gelu", {{"width", int64_t{8}}}, {8, 2, 0});
  const Tensor hidden = at::empty({0, 8}).set_requires_grad(true);
  const Assignment none = make_assignment_from_pair_weights(
      {.num_tokens = 0, .expert_begin = {0, 0, 0}, .token = {}}, at::empty({0}));
  const Tensor out = bank->forward(hidden, none);
  EXPECT_EQ(out.sizes(), (at::IntArrayRef{0, 8}));
  out.sum().backward();
  EXPECT_EQ(hidden.grad().numel(), 0);
}

TEST(ExpertBank, RefusesAnAssignmentForOtherExperts) {
  const auto bank = make_bank("relu", {{"width", int64_t{8}}}, {8, 3, 5});
  try {
    bank->forward(random_hidden(4, 8, 1), random_assignment(4, 2, 1));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "layer 5: an assignment for 2 experts reached a bank of 3 experts");
  }
}

TEST(SharedExperts, AddADenseFeedForwardTimesItsGate) {
  const auto& entry = expert_bank_decorators().at("shared");
  RandomStream random(2, "shared");
  const ExpertSizes sizes = {8, 3, 0};
  const auto bank =
      entry.make(make_bank("swiglu", {{"width", int64_t{16}}}, sizes),
                 Values(entry.spec.parameters,
                        {{"num_shared", int64_t{2}}, {"width", int64_t{12}}, {"gate", true}}, "shared"),
                 sizes, random);
  ParameterList parameters;
  bank->collect(parameters, "mlp");
  ASSERT_EQ(parameters.size(), 7u);
  EXPECT_EQ(parameters[3].name, "mlp.shared_expert.gate_proj.weight");
  EXPECT_EQ(parameters[3].tensor.sizes(), (at::IntArrayRef{24, 8}));
  EXPECT_EQ(parameters[6].name, "mlp.shared_expert_gate.weight");

  const Assignment assignment = random_assignment(10, 3, 3);
  const Tensor x = random_hidden(10, 8, 4);
  const Tensor routed = make_bank("swiglu", {{"width", int64_t{16}}}, sizes)->forward(x, assignment);
  const Tensor inner = at::silu(at::mm(x, parameters[3].tensor.t())) * at::mm(x, parameters[4].tensor.t());
  const Tensor gate = at::sigmoid(at::mm(x, parameters[6].tensor.t()));
  const Tensor expected = routed + gate * at::mm(inner, parameters[5].tensor.t());
  const Tensor out = bank->forward(x, assignment);
  EXPECT_LT(largest_difference(out, expected), 1e-5);
  out.sum().backward();
  EXPECT_TRUE(parameters[6].tensor.grad().defined());
}

TEST(SharedExperts, ReadThroughAGainOfTheirOwnWhenAsked) {
  const auto& entry = expert_bank_decorators().at("shared");
  RandomStream random(3, "shared");
  const ExpertSizes sizes = {8, 3, 0};
  const auto bank = entry.make(
      make_bank("relu", {{"width", int64_t{16}}}, sizes),
      Values(entry.spec.parameters,
             {{"width", int64_t{12}}, {"activation", std::string("relu")}, {"own_gain", true}}, "shared"),
      sizes, random);
  ParameterList parameters;
  bank->collect(parameters, "mlp");
  const auto named = [&](const std::string& name) {
    return std::ranges::find(parameters, "mlp.shared_experts." + name, &NamedTensor::name)->tensor;
  };
  const Tensor gain = named("input_gain.weight");
  EXPECT_TRUE(at::equal(gain, at::ones({8}))) << "begins as the layer's norm";
  const Assignment assignment = random_assignment(10, 3, 3);
  const Tensor x = random_hidden(10, 8, 4);
  {
    const at::NoGradGuard no_grad;
    Tensor(gain).copy_(at::arange(1, 9));
  }
  const Tensor routed = make_bank("relu", {{"width", int64_t{16}}}, sizes)->forward(x, assignment);
  const Tensor shared =
      at::relu((x * gain).mm(named("up_proj.weight").t())).mm(named("down_proj.weight").t());
  const Tensor out = bank->forward(x, assignment);
  EXPECT_LT(largest_difference(out, routed + shared), 1e-4);
  out.sum().backward();
  EXPECT_TRUE(gain.grad().defined());
  int64_t count = 0;
  for (const NamedTensor& p : parameters)
    count += p.name.find("shared") != std::string::npos ? p.tensor.numel() : 0;
  EXPECT_EQ(bank->parameters_per_token(), count);
}

/// A ReLU expert of the identity: with both dropouts a value is zero with probability 1 - (1 - p)^2, and its
/// mean stays.
TEST(ExpertBank, DropsOutAfterTheActivationAndTheSumInTrainingOnly) {
  constexpr int64_t kTokens = 400, kHidden = 8;
  const auto bank = make_bank("relu", {{"width", kHidden}, {"dropout", 0.25}},
                              {.hidden_size = kHidden, .num_experts = 2, .layer = 0});
  ParameterList list;
  bank->collect(list, "mlp");
  const at::NoGradGuard no_grad;
  for (const NamedTensor& p : list) p.tensor.copy_(at::eye(kHidden).expand({2, kHidden, kHidden}));
  choice::Pairs pairs{.num_tokens = kTokens, .expert_begin = {0, kTokens / 2, kTokens}, .token = {}};
  for (int64_t t = 0; t < kTokens; ++t) pairs.token.push_back(t);
  const Assignment one_each = make_assignment_from_pair_weights(pairs, at::ones({kTokens}));
  const Tensor x = at::ones({kTokens, kHidden});
  EXPECT_TRUE(at::equal(bank->forward(x, one_each), x));
  RandomStream draws(3, "dropout");
  const ExpertContext training{.training = true, .random = &draws};
  const Tensor thinned = bank->forward(x, one_each, training);
  EXPECT_NEAR((thinned == 0).to(at::kDouble).mean().item<double>(), 1 - 0.75 * 0.75, 0.03);
  EXPECT_NEAR(thinned.mean().item<double>(), 1, 0.06);
  EXPECT_NEAR(thinned.max().item<double>(), 1 / (0.75 * 0.75), 1e-5);
  draws.seek(0);
  EXPECT_TRUE(at::equal(bank->forward(x, one_each, training), thinned));
}

}  // namespace
}  // namespace gatewright

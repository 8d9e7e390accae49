// Scorers and their decorators: examples by hand, gradients of every scorer's parameters, and what holds for
// all.
#include "gatewright/routing/scorers/scorers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "gatewright/base/parallel.h"
#include "gatewright/routing/scorers/decorators.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

constexpr RouterSizes kSixByFive{.hidden_size = 6, .num_experts = 5};

/// The parameter whose name ends so.
Tensor parameter(const Scorer& scorer, const std::string& name) {
  ParameterList list;
  scorer.collect(list, "gate");
  for (const NamedTensor& p : list) {
    if (p.name == "gate." + name) return p.tensor;
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

void set(const Scorer& scorer, const std::string& name, const std::vector<float>& values) {
  Tensor data = parameter(scorer, name).detach();
  data.copy_(tensor(values, data.sizes()));
}

RoutingContext context_with(RandomStream& random, const Tensor& token_ids, bool training = true) {
  return {.layer = 3, .training = training, .token_ids = token_ids, .random = &random};
}

TEST(EveryScorer, IsRegisteredUnderTheNameThatRecipesUse) {
  for (const char* name :
       {"linear", "cosine", "mlp", "hash", "random", "recurrent", "mixture", "fixed_linear", "uniform"})
    EXPECT_NE(scorers().find(name), nullptr) << name;
  for (const char* name : {"jitter", "noise", "residual_logits", "logit_bias", "omit"})
    EXPECT_NE(scorer_decorators().find(name), nullptr) << name;
}

TEST(EveryScorer, NamesTheWidthThatItReads) {
  for (const std::string& name : scorers().names()) {
    const auto scorer = make_scorer(name, kSixByFive);
    ParameterList list;
    scorer->collect(list, "gate");
    if (list.empty()) continue;
    EXPECT_EQ(error_of([&] {
                scorer->logits(at::zeros({2, 4}), {.layer = 5});
              }),
              "layer 5: the router reads hidden states of width 6, got 4")
        << name;
  }
}

TEST(EveryScorer, GivesALogitForEachTokenAndExpert) {
  for (const std::string& name : scorers().names()) {
    const auto scorer = make_scorer(name, kSixByFive);
    for (int64_t num_tokens : {0, 1, 70}) {
      RandomStream random(1, "hidden");
      const Tensor ids = at::arange(num_tokens, at::kLong);
      const Tensor logits = scorer->logits(normals({num_tokens, 6}, random), context_with(random, ids));
      EXPECT_EQ(logits.sizes(), (std::vector<int64_t>{num_tokens, 5})) << name;
      EXPECT_EQ(logits.scalar_type(), at::kFloat) << name;
      EXPECT_TRUE(at::isfinite(logits).all().item<bool>()) << name;
    }
  }
}

TEST(EveryScorer, NamesItsParametersDifferently) {
  for (const std::string& name : scorers().names()) {
    ParameterList list;
    make_scorer(name, kSixByFive)->collect(list, "model.layers.0.mlp.gate");
    std::set<std::string> names;
    for (const NamedTensor& p : list) {
      names.insert(p.name);
      EXPECT_TRUE(p.name.starts_with("model.layers.0.mlp.gate.")) << p.name;
      EXPECT_TRUE(p.tensor.requires_grad() == p.trainable && p.tensor.is_leaf()) << p.name;
    }
    EXPECT_EQ(names.size(), list.size()) << name;
  }
}

TEST(EveryScorer, StartsFromTheSameWeightsForTheSameStream) {
  for (const std::string& name : scorers().names()) {
    ParameterList first, second;
    make_scorer(name, kSixByFive, {}, 4)->collect(first, "gate");
    make_scorer(name, kSixByFive, {}, 4)->collect(second, "gate");
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(at::equal(first[i].tensor, second[i].tensor)) << name;
  }
}

TEST(EveryScorer, HasTheGradientOfItsLogitsForEveryParameterAndTheInput) {
  RandomStream random(5, "hidden");
  const Tensor hidden = normals({7, 6}, random), direction = normals({7, 5}, random);
  for (const std::string& name : scorers().names()) {
    Given given;
    if (name == "mlp") given = {{"init", 0.5}, {"router_width", int64_t{3}}};
    if (name == "linear") given = {{"bias", true}, {"init", 0.5}};
    if (name == "mixture") given = {{"init", 0.5}};
    if (name == "recurrent") given = {{"recurrent_size", int64_t{3}}, {"init", 0.5}};
    const auto scorer = make_scorer(name, kSixByFive, given);
    ParameterList list;
    scorer->collect(list, "gate");
    Tensor input = leaf(hidden);
    list.push_back({.name = "input", .tensor = input});
    const auto value = [&] {
      RandomStream draws(6, "draws");
      return (scorer->logits(input, context_with(draws, at::arange(7, at::kLong))) * direction).sum();
    };
    if (!value().requires_grad()) continue;  // hash and random
    value().backward();
    for (const NamedTensor& p : list) {
      if (!p.trainable) continue;
      Tensor data = p.tensor.detach();
      const Tensor original = data.clone();
      // One direction for each tensor: the differences of float32 values are then large enough to be
      // measured.
      const Tensor way = normals(data.sizes(), random);
      constexpr double kStep = 1e-2;
      const auto at = [&](double s) {
        data.copy_(original + way * s);
        return value().item<double>();
      };
      const double slope = (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep);
      data.copy_(original);
      ASSERT_TRUE(p.tensor.grad().defined()) << name << " " << p.name;
      EXPECT_NEAR((p.tensor.grad() * way).sum().item<double>(), slope, 3e-3 * (1 + std::abs(slope)))
          << name << " " << p.name;
    }
  }
}

TEST(LinearScorer, IsComputedByHand) {
  const auto scorer = make_scorer("linear", {.hidden_size = 2, .num_experts = 3}, {{"bias", true}});
  set(*scorer, "weight", {1, 0, 0, 1, 2, -1});
  set(*scorer, "bias", {0.5f, 0, -1});
  EXPECT_EQ(to_floats(scorer->logits(tensor({3, 4}, {1, 2}), {})), (std::vector<float>{3.5f, 4, 1}));
}

TEST(FixedLinearScorer, IsDrawnUniformlyAndNotTrained) {
  const auto scorer = make_scorer("fixed_linear", {.hidden_size = 100, .num_experts = 50});
  const Tensor weight = parameter(*scorer, "weight");
  EXPECT_FALSE(weight.requires_grad() || parameter(*scorer, "bias").requires_grad());
  EXPECT_LE(weight.abs().max().item<double>(), 0.1) << "1 / sqrt(100)";
  EXPECT_NEAR(weight.std().item<double>(), 0.2 / std::sqrt(12.0), 0.002);
  EXPECT_GT(parameter(*scorer, "bias").abs().max().item<double>(), 0.05);
  const auto zero = make_scorer("fixed_linear", {.hidden_size = 4, .num_experts = 3}, {{"gate_scale", 0.0}});
  EXPECT_TRUE(at::equal(zero->logits(at::ones({2, 4}), {}), at::zeros({2, 3})));
}

TEST(CosineScorer, DividesTheCosineByTheTemperature) {
  const auto scorer = make_scorer("cosine", {.hidden_size = 2, .num_experts = 3},
                                  {{"projection_size", int64_t{2}}, {"temperature", 0.5}});
  set(*scorer, "projection.weight", {1, 0, 0, 1});
  set(*scorer, "embedding.weight", {5, 0, 0, 0.1f, -3, -4});
  const Tensor logits = scorer->logits(tensor({3, 4, 30, 40}, {2, 2}), {});
  const std::vector<float> expected = {1.2f, 1.6f, -2, 1.2f, 1.6f, -2};  // 0.6, 0.8 and -1 over 0.5
  EXPECT_LT(difference(logits, tensor(expected, {2, 3})), 1e-6) << "lengths do not matter";
}

TEST(CosineScorer, OfAZeroTokenIsFinite) {
  const auto scorer = make_scorer("cosine", {.hidden_size = 2, .num_experts = 3});
  Tensor hidden = leaf(at::zeros({1, 2}));
  const Tensor logits = scorer->logits(hidden, {});
  EXPECT_EQ(to_floats(logits), (std::vector<float>{0, 0, 0}));
  logits.sum().backward();
  EXPECT_TRUE(at::isfinite(hidden.grad()).all().item<bool>());
}

TEST(MlpScorer, IsComputedByHand) {
  for (const auto& [name, expected] : std::map<std::string, float>{
           {"tanh", std::tanh(2.0f)}, {"relu", 2}, {"silu", 2 / (1 + std::exp(-2.0f))}}) {
    const auto scorer = make_scorer("mlp", {.hidden_size = 1, .num_experts = 2},
                                    {{"router_width", int64_t{1}}, {"router_activation", name}});
    set(*scorer, "fc1.weight", {3});
    set(*scorer, "fc1.bias", {-1});
    set(*scorer, "fc2.weight", {1, 2});
    set(*scorer, "fc2.bias", {0, 10});
    const Tensor logits = scorer->logits(tensor({1}, {1, 1}), {});  // 3 x 1 - 1 = 2 between the layers
    EXPECT_LT(difference(logits, tensor({expected, 2 * expected + 10}, {1, 2})), 1e-6) << name;
  }
}

TEST(HashScorer, DependsOnTheTokenIdTheLayerAndTheSeedOnly) {
  const auto logits = [](int64_t seed, int64_t layer, const std::vector<int64_t>& ids) {
    const auto scorer = make_scorer("hash", {.hidden_size = 2, .num_experts = 16}, {{"hash_seed", seed}});
    RandomStream random(9, "hidden");
    const auto count = static_cast<int64_t>(ids.size());
    return scorer->logits(normals({count, 2}, random),
                          {.layer = layer, .token_ids = at::tensor(ids, at::kLong)});
  };
  const Tensor base = logits(0, 0, {5, 9, 5});
  EXPECT_TRUE(at::equal(base[0], base[2]));
  EXPECT_FALSE(at::equal(base[0], base[1]));
  EXPECT_FALSE(at::equal(logits(0, 1, {5})[0], base[0]));
  EXPECT_FALSE(at::equal(logits(1, 0, {5})[0], base[0]));
  EXPECT_GE(base.min().item<float>(), 0);
  EXPECT_LT(base.max().item<float>(), 0.001f) << "the spread";
}

TEST(HashScorer, SpreadsTokenIdsEvenly) {
  const auto scorer = make_scorer("hash", {.hidden_size = 2, .num_experts = 8});
  const Tensor logits = scorer->logits(at::zeros({8000, 2}), {.token_ids = at::arange(8000, at::kLong)});
  const Tensor counts = at::bincount(logits.argmax(-1), {}, 8);
  EXPECT_GT(counts.min().item<int64_t>(), 850) << "1000 expected, with a standard deviation of 30";
  EXPECT_LT(counts.max().item<int64_t>(), 1150);
}

TEST(HashScorer, NeedsTokenIds) {
  const auto scorer = make_scorer("hash", {.hidden_size = 2, .num_experts = 8});
  EXPECT_EQ(error_of([&] {
              scorer->logits(at::zeros({4, 2}), {.layer = 2});
            }),
            "layer 2: the scorer hash needs the token ids of the 4 tokens");
}

TEST(RandomScorer, IsNormalAndNewAtEachCall) {
  const auto scorer = make_scorer("random", {.hidden_size = 2, .num_experts = 50}, {{"std", 2.0}});
  RandomStream random(1, "draws");
  const Tensor first = scorer->logits(at::zeros({400, 2}), {.random = &random});
  const Tensor second = scorer->logits(at::zeros({400, 2}), {.random = &random});
  EXPECT_NEAR(first.mean().item<double>(), 0, 0.06);
  EXPECT_NEAR(first.std().item<double>(), 2, 0.06);
  EXPECT_FALSE(at::equal(first, second));
  EXPECT_EQ(error_of([&] {
              scorer->logits(at::zeros({4, 2}), {.layer = 2});
            }),
            "layer 2: the scorer random needs a random stream");
}

TEST(Jitter, MultipliesByUniformNoiseInTrainingOnly) {
  Jitter jitter(std::make_unique<Echo>(), 0.1);
  RandomStream random(1, "draws");
  const Tensor ones = at::ones({300, 20});
  EXPECT_TRUE(at::equal(jitter.logits(ones, {.training = false}), ones));
  const Tensor noisy = jitter.logits(ones, {.training = true, .random = &random});
  EXPECT_GE(noisy.min().item<float>(), 0.9f - 1e-6f);
  EXPECT_LE(noisy.max().item<float>(), 1.1f + 1e-6f);
  EXPECT_NEAR(noisy.mean().item<double>(), 1, 0.003);
  EXPECT_NEAR(noisy.std().item<double>(), 0.2 / std::sqrt(12.0), 0.002);
  EXPECT_EQ(error_of([&] { jitter.logits(ones, {.layer = 4, .training = true}); }),
            "layer 4: jitter needs a random stream in training");
}

TEST(Jitter, DrawsTheSameWithAnyNumberOfThreads) {
  Jitter jitter(std::make_unique<Echo>(), 0.1);
  const auto drawn = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    RandomStream random(2, "draws");
    const Tensor values = jitter.logits(at::ones({2000, 20}), {.training = true, .random = &random});
    set_num_threads(before);
    return std::pair(values, random.position());
  };
  const auto [one, after_one] = drawn(1);
  const auto [three, after_three] = drawn(3);
  EXPECT_TRUE(at::equal(one, three));
  EXPECT_EQ(after_one, after_three);
}

TEST(Noise, AddsNormalNoiseInTrainingOnly) {
  Noise noise(std::make_unique<Echo>(), 0.5, false, {.hidden_size = 20, .num_experts = 20});
  RandomStream random(1, "draws");
  const Tensor ones = at::ones({300, 20});
  EXPECT_TRUE(at::equal(noise.logits(ones, {.training = false}), ones));
  const Tensor noisy = noise.logits(ones, {.training = true, .random = &random});
  EXPECT_NEAR(noisy.mean().item<double>(), 1, 0.03);
  EXPECT_NEAR(noisy.std().item<double>(), 0.5, 0.03);
}

TEST(Noise, LearnsItsSizeFromSoftplus) {
  Noise noise(std::make_unique<Echo>(), 0, true, {.hidden_size = 20, .num_experts = 20});
  RandomStream random(1, "draws");
  const Tensor noisy = noise.logits(at::ones({300, 20}), {.training = true, .random = &random});
  EXPECT_NEAR(noisy.std().item<double>(), std::log(2.0), 0.03) << "softplus(0), as the weights start at zero";
  noisy.sum().backward();
  EXPECT_GT(parameter(noise, "noise.weight").grad().abs().sum().item<double>(), 0);
}

TEST(LogitBias, AddsOneValueForEachExpert) {
  LogitBias bias(std::make_unique<Echo>(), {1, 0, -2}, {.hidden_size = 3, .num_experts = 3});
  EXPECT_EQ(to_floats(bias.logits(tensor({5, 5, 5}, {1, 3}), {})), (std::vector<float>{6, 5, 3}));
  EXPECT_EQ(error_of([] { LogitBias(std::make_unique<Echo>(), {1}, {.hidden_size = 3, .num_experts = 3}); }),
            "[logit_bias] 1 values for 3 experts; one value an expert is needed");
}

TEST(Omit, MasksExpertsAsIfTheyHadBeenPruned) {
  Omit omit(std::make_unique<Echo>(), {1}, {.hidden_size = 3, .num_experts = 3});
  const Tensor logits = omit.logits(tensor({std::log(3.0f), 7, 0}, {1, 3}), {});
  EXPECT_EQ(logits[0][1].item<float>(), choice::kMask);
  EXPECT_LT(difference(activate(choice::Activation::kSoftmax, logits), tensor({0.75f, 0, 0.25f}, {1, 3})),
            1e-6);
  const RouterSizes three{.hidden_size = 3, .num_experts = 3};
  EXPECT_EQ(error_of([&] { Omit(std::make_unique<Echo>(), {3}, three); }),
            "[omit] there is no expert 3; the experts are 0 to 2");
  EXPECT_EQ(error_of([&] {
              Omit(std::make_unique<Echo>(), {0, 1, 2}, three);
            }),
            "[omit] all 3 experts are omitted; at least one must stay");
}

}  // namespace
}  // namespace gatewright

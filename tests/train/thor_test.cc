// THOR in training and in use: two passes, one expert a pass, equal draws for equal seeds.
#include <gmock/gmock.h>

#include "tests/models/tiny_models.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

std::vector<std::string> thor(const std::vector<std::string>& more = {}) {
  std::vector<std::string> settings = {"routing.scorer=uniform",     "routing.selector=stochastic",
                                       "routing.weights=equal",      "experts.bank=relu",
                                       "experts.biases=true",        "balance.switch.weight=0",
                                       "train.objective=consistency"};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

/// Two layers of four ReLU experts chosen by lot.
DecoderSpec thor_spec(const Given& selector = {}, int64_t num_experts = 4) {
  DecoderSpec spec = tiny_spec(2);
  for (FeedForwardSpec& layer : spec.layers) {
    layer.num_experts = num_experts;
    layer.experts = make_piece(expert_banks(), "relu", {{"width", int64_t{24}}, {"init", 0.3}});
    layer.router = {.scorer = make_piece(scorers(), "uniform"),
                    .selector = make_piece(choice::selectors(), "stochastic", selector),
                    .weights = {.weighting = choice::Weighting::kEqual}};
  }
  return spec;
}

/// Experts of `layer` whose weights have a gradient that is not zero.
int64_t experts_with_gradient(const Decoder& model, const std::string& layer) {
  for (const NamedTensor& p : model.parameters()) {
    if (p.name == "model.layers." + layer + ".mlp.experts.{}.up_proj.weight")
      return (p.tensor.grad().abs().sum({1, 2}) > 0).sum().item<int64_t>();
  }
  return -1;
}

TEST(Thor, TrainsOneExpertALayerAndPass) {
  Decoder model(thor_spec(), 1);
  model.forward({.tokens = random_tokens(3, 8, 40, 1)}, {.training = true}).hidden.square().sum().backward();
  EXPECT_EQ(experts_with_gradient(model, "0"), 1);
  EXPECT_EQ(experts_with_gradient(model, "1"), 1);
}

/// Gives every expert of `to` the weights of expert `e` of the same layer of `from`.
void copy_expert(const Decoder& from, const Decoder& to, int64_t e) {
  const at::NoGradGuard no_grad;
  const ParameterList source = from.parameters(), target = to.parameters();
  for (size_t i = 0; i < source.size(); ++i) {
    const bool stacked = source[i].name.find("{}") != std::string::npos;
    Tensor t = target[i].tensor;
    t.copy_(stacked ? source[i].tensor[e].expand_as(t) : source[i].tensor);
  }
}

TEST(Thor, FixedIsADenseModelOfThatExpertAndSoIsAnEnsembleOfEqualOnes) {
  const Batch batch{.tokens = random_tokens(2, 7, 40, 2)};
  Decoder fixed(thor_spec({{"inference", std::string("fixed")}, {"expert", int64_t{2}}}), 1);
  Decoder dense(thor_spec({}, 1), 1), equal(thor_spec({{"inference", std::string("ensemble")}}), 1);
  copy_expert(fixed, dense, 2);
  copy_expert(fixed, equal, 2);
  const Tensor expected = logits_of(dense, batch);
  EXPECT_LT((logits_of(fixed, batch) - expected).abs().max().item<double>(), 1e-5);
  EXPECT_LT((logits_of(equal, batch) - expected).abs().max().item<double>(), 1e-5);
}

TEST(Thor, DrawsAnewForAnotherDrawAndTheSameForTheSame) {
  Decoder model(thor_spec({{"inference", std::string("token")}}), 1);
  const Batch batch{.tokens = random_tokens(2, 16, 40, 2)};
  EXPECT_TRUE(at::equal(logits_of(model, batch), logits_of(model, batch)));
  EXPECT_FALSE(at::equal(logits_of(model, batch), logits_of(model, batch, {.draw = 1})));
}

TEST(Thor, DrawsAnewAtEveryStepOfAGeneration) {
  Decoder model(thor_spec({{"inference", std::string("token")}}), 1);
  const at::NoGradGuard no_grad;
  std::vector<KeyValueCache> cache(2);
  std::set<int64_t> seen;
  for (int64_t t = 0; t < 40; ++t) {
    const DecoderOutput one = model.forward({.tokens = random_tokens(1, 1, 40, 2)}, {.cache = &cache});
    seen.insert(expert_of_pairs(one.routing[0].assignment).item<int64_t>());
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST(Thor, OfTheSameSeedIsTheSameTraining) {
  Setting a(thor()), b(thor());
  for (int i = 0; i < 4; ++i) {
    const StepResult of_a = a.trainer.step(), of_b = b.trainer.step();
    EXPECT_EQ(of_a.loss, of_b.loss);
    EXPECT_EQ(of_a.disagreement, of_b.disagreement);
  }
}

TEST(Thor, PassesOfOneExpertAgree) {
  Setting one(thor({"experts.num_experts=1"}));
  const StepResult result = one.trainer.step();
  EXPECT_EQ(result.disagreement, 0) << "no dropout: nothing differs";
  EXPECT_GT(result.loss, 0);
  // Both passes weigh alike, and the loss of a step is that of one.
  Setting plain(thor({"experts.num_experts=1", "train.objective=next_token"}));
  EXPECT_NEAR(plain.trainer.step().loss, result.loss, 1e-4);
}

TEST(Thor, OfDifferentDrawsDisagrees) {
  Setting setting(thor({"experts.init=0.5"}));
  double disagreement = 0;
  for (int i = 0; i < 5; ++i) disagreement += setting.trainer.step().disagreement;
  EXPECT_GT(disagreement, 0);
}

TEST(Thor, RefusesBadNumbersInARecipe) {
  const auto problem = [](const std::vector<std::string>& more) {
    return error_of([&] { small_recipe(thor(more)); });
  };
  EXPECT_THAT(problem({"train.alpha=-1"}), HasSubstr("alpha must"));
  EXPECT_THAT(problem({"train.label_smoothing=1"}), HasSubstr("label_smoothing must"));
  EXPECT_THAT(problem({"experts.num_experts=0"}), HasSubstr("num_experts must"));
  EXPECT_THAT(problem({"routing.inference=fixed", "routing.expert=4"}), HasSubstr("there is no expert 4"));
  EXPECT_THAT(error_of([] { small_recipe({"train.alpha=1"}); }), HasSubstr("objective = \"consistency\""));
}

}  // namespace
}  // namespace gatewright

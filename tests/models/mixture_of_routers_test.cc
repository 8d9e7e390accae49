// Whole decoders with a mixture of routers over LoRA experts: names in files, frozen weights, generation,
// recipes.
#include <gmock/gmock.h>

#include "gatewright/models/checkpoint.h"
#include "gatewright/routing/scorers/mixture.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

DecoderSpec mixture_spec() {
  DecoderSpec spec = tiny_spec(2);
  for (FeedForwardSpec& layer : spec.layers) {
    layer.experts = make_piece(expert_banks(), "lora", {{"width", int64_t{24}}, {"rank", int64_t{2}}});
    layer.router.scorer = make_piece(scorers(), "mixture", {{"init", 0.5}});
    layer.router.balance = {make_piece(balance_terms(), "switch"),
                            make_piece(balance_terms(), "main_router")};
  }
  return spec;
}

TEST(MixtureOfRouters, IsSavedBesideItsAdapters) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const NamedTensor& p : Decoder(mixture_spec(), 1).parameters())
    shapes[p.name] = p.tensor.sizes().vec();
  const std::string mlp = "model.layers.1.mlp.";
  EXPECT_EQ(shapes[mlp + "moe_lora.sub_routers"], (std::vector<int64_t>{3, 4, 32}));
  EXPECT_EQ(shapes[mlp + "moe_lora.main_router"], (std::vector<int64_t>{3, 32}));
  EXPECT_EQ(shapes[mlp + "moe_lora.experts.{}.gate_proj.lora_A.weight"], (std::vector<int64_t>{4, 2, 32}));
  EXPECT_EQ(shapes[mlp + "moe_lora.experts.{}.gate_proj.lora_B.weight"], (std::vector<int64_t>{4, 24, 2}));
  EXPECT_EQ(shapes[mlp + "moe_lora.experts.{}.down_proj.lora_A.weight"], (std::vector<int64_t>{4, 2, 24}));
  EXPECT_EQ(shapes[mlp + "gate_proj.weight"], (std::vector<int64_t>{24, 32})) << "as a dense layer has it";
}

TEST(MixtureOfRouters, IsRestoredBitForBit) {
  TemporaryFolder folder;
  Decoder model(mixture_spec(), 3);
  for (const NamedTensor& p : model.parameters()) {
    if (p.name.ends_with("lora_B.weight")) p.tensor.detach().fill_(0.2);
  }
  save_model(folder.path(), model, "{}");
  Decoder loaded = load_decoder(folder.path());
  const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
  EXPECT_TRUE(at::equal(logits_of(loaded, batch), logits_of(model, batch)));
}

TEST(MixtureOfRouters, CountsFrozenWeightsAsParametersOfTheModel) {
  const Decoder model(mixture_spec(), 1);
  EXPECT_EQ(count_parameters(model.spec()).total, model.num_parameters() + 2 * 3 * 24 * 32);
}

TEST(MixtureOfRouters, RoutesTokenByTokenAsInOnePass) {
  Decoder model(mixture_spec(), 4);
  const Tensor tokens = random_tokens(1, 12, 40, 2);
  const Tensor whole = logits_of(model, {.tokens = tokens});
  std::vector<KeyValueCache> cache(2);
  for (int64_t t = 0; t < 12; ++t) {
    const Tensor one = logits_of(model, {.tokens = tokens.slice(1, t, t + 1)}, {.cache = &cache});
    EXPECT_LT((one.select(1, 0) - whole.select(1, t)).abs().max().item<double>(), 1e-4) << t;
  }
}

TEST(MixtureOfRouters, LeavesFrozenWeightsAloneInTraining) {
  Setting setting({"experts.bank=lora", "experts.rank=2", "experts.width=16", "routing.scorer=mixture",
                   "balance.main_router.weight=0.01"});
  std::map<std::string, Tensor> before;
  for (const NamedTensor& p : setting.parameters()) before[p.name] = p.tensor.detach().clone();
  for (int i = 0; i < 3; ++i) setting.trainer.step();
  for (const NamedTensor& p : setting.parameters()) {
    const bool frozen =
        p.name.find("mlp.") != std::string::npos && p.name.find("moe_lora") == std::string::npos;
    EXPECT_EQ(p.trainable, !frozen) << p.name;
    EXPECT_EQ(at::equal(p.tensor, before[p.name]), frozen) << p.name;
  }
  for (const NamedTensor& p : setting.trainer.state())
    EXPECT_EQ(p.name.find("mlp.gate_proj"), std::string::npos) << "the optimiser has no " << p.name;
}

TEST(MixtureOfRouters, RefusesWhatDoesNotFitInARecipe) {
  const auto problem = [](const std::vector<std::string>& settings) {
    return error_of([&] { small_recipe(settings); });
  };
  EXPECT_THAT(problem({"routing.scorer=mixture", "routing.num_routers=0"}), HasSubstr("num_routers must"));
  EXPECT_THAT(problem({"routing.scorer=mixture", "routing.top_m=4"}),
              HasSubstr("top_m = 4, but it can be at most num_routers, which is 3"));
  EXPECT_THAT(problem({"routing.scorer=mixture", "routing.top_k=5"}), HasSubstr("top_k = 5 of 4 experts"));
  EXPECT_THAT(problem({"experts.bank=lora", "experts.rank=0"}), HasSubstr("rank must"));
  EXPECT_THAT(problem({"balance.main_router.weight=0.01"}),
              HasSubstr("main_router works with scorer = \"mixture\" only"));
}

}  // namespace
}  // namespace gatewright

// Whole decoders with recurrent routers: names in files, generation, training, recipes.
#include <gmock/gmock.h>

#include "gatewright/models/checkpoint.h"
#include "gatewright/train/recipe.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Three layers, the middle one dense, with one cell for both routers.
DecoderSpec recurrent_spec(const Given& given = {}) {
  DecoderSpec spec = tiny_spec(3);
  spec.layers[1] = {.routed = false, .dense_width = 24};
  Given values = {{"recurrent_size", int64_t{6}}, {"init", 0.6}};
  for (const auto& [name, value] : given) values[name] = value;
  for (size_t l : {0, 2}) {
    spec.layers[l].router.scorer = make_piece(scorers(), "recurrent", values);
    spec.layers[l].router.balance = {make_piece(balance_terms(), "pooled_switch")};
  }
  return spec;
}

TEST(RecurrentRouter, IsSavedUnderTheNamesOfItsOwnCheckpoints) {
  const std::vector<std::string> names = names_of(Decoder(recurrent_spec(), 1).parameters());
  for (const char* name :
       {"model.rnn_router.weight_ir", "model.rnn_router.bias_hn", "model.layers.0.block_sparse_moe.weight1",
        "model.layers.2.block_sparse_moe.weight2", "model.layers.2.block_sparse_moe.experts.{}.w1.weight",
        "model.layers.0.block_sparse_moe.experts.{}.w2.weight",
        "model.layers.0.block_sparse_moe.experts.{}.w3.weight", "model.layers.1.mlp.gate_proj.weight"})
    EXPECT_EQ(std::ranges::count(names, name), 1) << name;
  EXPECT_EQ(std::ranges::count_if(names, [](const auto& n) { return n.find("rnn_router") != n.npos; }), 12);
}

TEST(RecurrentRouter, IsRestoredBitForBit) {
  for (const Given& given : {Given{}, Given{{"cell", "rnn"}, {"shared_projector", true}}}) {
    TemporaryFolder folder;
    Decoder model(recurrent_spec(given), 3);
    save_model(folder.path(), model, "{}");
    Decoder loaded = load_decoder(folder.path());
    const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
    EXPECT_TRUE(at::equal(logits_of(loaded, batch), logits_of(model, batch)));
    EXPECT_EQ(names_of(loaded.parameters()), names_of(model.parameters()));
    EXPECT_EQ(count_parameters(model.spec()).total, model.num_parameters());
  }
}

TEST(RecurrentRouter, PassesTheStateThroughDenseLayers) {
  Decoder passed(recurrent_spec(), 3), alone(recurrent_spec({{"state", "not_passing"}}), 3);
  const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
  const auto a = passed.forward(batch).routing, b = alone.forward(batch).routing;
  EXPECT_TRUE(at::equal(a[0].scores.logits, b[0].scores.logits));
  EXPECT_GT((a[1].scores.logits - b[1].scores.logits).abs().max().item<double>(), 1e-3);
}

TEST(RecurrentRouter, RoutesTokenByTokenAsInOnePass) {
  Decoder model(recurrent_spec(), 4);
  const at::NoGradGuard no_grad;
  const Tensor tokens = random_tokens(1, 24, 40, 2);
  const auto whole = model.forward({.tokens = tokens}).routing;
  std::vector<KeyValueCache> cache(3);
  for (int64_t t = 0; t < 24; ++t) {
    const auto one = model.forward({.tokens = tokens.slice(1, t, t + 1)}, {.cache = &cache}).routing;
    for (size_t l = 0; l < 2; ++l) {
      const Tensor logits = whole[l].scores.logits.slice(0, t, t + 1);
      EXPECT_LT((one[l].scores.logits - logits).abs().max().item<double>(), 1e-4);
      if (margins(whole[l])[static_cast<size_t>(t)] > 1e-4) {
        EXPECT_TRUE(at::equal(std::get<1>(one[l].scores.logits.topk(2)), std::get<1>(logits.topk(2)))) << t;
      }
    }
  }
}

TEST(RecurrentRouter, ReportsThePooledLossOnceForAllLayers) {
  Decoder model(recurrent_spec(), 4);
  const DecoderOutput output = model.forward({.tokens = random_tokens(2, 16, 40, 2)}, {.training = true});
  ASSERT_EQ(output.routing.size(), 2u);
  EXPECT_FALSE(output.routing[0].loss.defined());
  EXPECT_FALSE(output.routing[0].balance.at(0).value.defined());
  const double value = output.routing[1].balance.at(0).value.item<double>();
  EXPECT_GT(value, 1) << "about k = 2";
  EXPECT_FLOAT_EQ(output.balance_loss.item<float>(), static_cast<float>(0.01 * value));
}

constexpr const char* kRecipe = R"(
[model]
vocab_size = 300
hidden_size = 32
num_layers = 3
num_heads = 4
[experts]
num_experts = 4
width = 16
[routing]
scorer = "recurrent"
recurrent_size = 8
selector = "top_p"
top_p = 0.5
weights = "renormalised"
[routing.residual_logits]
[balance.switch]
scope = "global_batch"
[balance.pooled_switch]
)";

TEST(RecurrentRouter, CombinesWithOtherPiecesInARecipe) {
  const Recipe recipe = make_recipe(kRecipe, "recurrent.toml");
  Decoder model(recipe.model, 1);
  const DecoderOutput output = model.forward({.tokens = random_tokens(2, 8, 40, 2)}, {.training = true});
  EXPECT_EQ(output.routing.size(), 3u);
  output.balance_loss.backward();
}

TEST(RecurrentRouter, RefusesLayersThatCannotShareACell) {
  const auto problem = [](const std::string& more) {
    return error_of([&] { make_recipe(std::string(kRecipe) + more, "recurrent.toml"); });
  };
  EXPECT_THAT(
      problem("[[layers]]\nat = [1]\n[layers.routing]\nrecurrent_size = 16\n"),
      HasSubstr("recurrent_size = 8 in layer 0 and 16 in layer 1, but the layers with recurrent share "
                "it; give them the same value"));
  EXPECT_THAT(problem("[[layers]]\nat = [2]\n[layers.experts]\nnum_experts = 6\n"),
              AllOf(HasSubstr("num_experts = 4 in layer 0 and 6 in layer 2, but pooled_switch compares"),
                    HasSubstr("but residual_logits compares")));
  EXPECT_THAT(error_of([] { make_recipe(kRecipe, "recurrent.toml", {"routing.recurrent_size=0"}); }),
              HasSubstr("recurrent_size must be in [1, 65536], got 0"));
}

}  // namespace
}  // namespace gatewright

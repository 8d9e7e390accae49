// Whole decoders with a mixture of routers over LoRA experts: names in files, frozen weights, generation,
// recipes.
#include <gmock/gmock.h>

#include "gatewright/evaluate/trace_of.h"
#include "gatewright/models/attention_adapters.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/routing/scorers/mixture.h"
#include "tests/models/tiny_models.h"
#include "tests/random_tensors.h"
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

/// With adapters on all projections of the attention, some of which do something.
DecoderSpec with_adapted_attention() {
  DecoderSpec spec = mixture_spec();
  for (FeedForwardSpec& layer : spec.layers) {
    layer.experts = make_piece(expert_banks(), "lora",
                               {{"width", int64_t{24}},
                                {"rank", int64_t{2}},
                                {"dropout", 0.0},
                                {"adapted", std::vector<std::string>{"gate", "q", "k", "v", "o"}}});
    layer.router.balance = {make_piece(balance_terms(), "switch")};
  }
  return spec;
}

void fill_adapters(const Decoder& model, double value) {
  for (const NamedTensor& p : model.parameters()) {
    if (p.name.ends_with("lora_B.weight")) p.tensor.detach().fill_(value);
  }
}

TEST(AdaptedAttention, HasRoutersOfItsOwnForEachProjection) {
  Decoder model(with_adapted_attention(), 1);
  std::map<std::string, NamedTensor> named;
  for (const NamedTensor& p : model.parameters()) named[p.name] = p;
  const std::string attention = "model.layers.1.self_attn.";
  EXPECT_EQ(named[attention + "o_proj.moe_lora.sub_routers"].tensor.sizes().vec(),
            (std::vector<int64_t>{3, 4, 32}));
  EXPECT_EQ(named[attention + "k_proj.moe_lora.experts.{}.lora_B.weight"].tensor.sizes().vec(),
            (std::vector<int64_t>{4, model.spec().num_kv_heads * model.spec().head_dim, 2}));
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    const NamedTensor& frozen = named[attention + name + ".weight"];
    EXPECT_FALSE(frozen.trainable) << name;
    EXPECT_FALSE(frozen.tensor.requires_grad()) << name;
    EXPECT_TRUE(named[attention + name + ".moe_lora.main_router"].router) << name;
    EXPECT_FALSE(named[attention + name + ".moe_lora.experts.{}.lora_A.weight"].router) << name;
  }
  int64_t values = 0;
  for (const auto& [name, p] : named) values += num_values(p.tensor);
  EXPECT_EQ(count_parameters(model.spec()).total, values);
  const DecoderOutput output = model.forward({.tokens = random_tokens(1, 6, 40, 3)}, {.training = true});
  EXPECT_EQ(output.attention.size(), 8u);
  EXPECT_EQ(output.attention[5].layer, 1);
  EXPECT_GE(output.attention[0].balance.at(0).value.item<double>(), 0.5) << "each is balanced";
  const TraceHeader header = trace_header(model.spec(), {});
  ASSERT_EQ(header.layers.size(), 10u);
  EXPECT_EQ(header.layers[2].part, "q_proj");
  EXPECT_EQ(header.layers[9].part, "o_proj");
  EXPECT_EQ(header.layers[9].layer, 1);
}

/// Each projection by itself, on plain values: W0 x + scale sum_e w_e B_e A_e x.
TEST(AdaptedAttention, AddsItsExpertsToTheProjection) {
  const DecoderSpec spec = with_adapted_attention();
  const AttentionAdapters adapters(spec, spec.layers[0], 7, "attention.");
  ParameterList list;
  adapters.collect(list, "");
  std::map<std::string, Tensor> named;
  for (const NamedTensor& p : list) named[p.name] = p.tensor;
  const at::NoGradGuard no_grad;
  const Tensor& b = named.at("v_proj.moe_lora.experts.{}.lora_B.weight").fill_(0.3);
  const Tensor& a = named.at("v_proj.moe_lora.experts.{}.lora_A.weight");
  RandomStream random(3, "values");
  const Tensor x = normals({1, 5, 32}, random), product = normals({1, 5, b.size(1)}, random);
  std::vector<RoutingRecord> records;
  const RoutingContext context;
  const Tensor all = adapters.adapted("v_proj", product, x, {.context = context, .records = records});
  ASSERT_EQ(records.size(), 1u);
  const choice::Pairs pairs = to_pairs(records[0].assignment);
  Tensor expected = product[0].clone();
  for (int64_t e = 0; e < 4; ++e) {
    for (int64_t n = pairs.expert_begin[static_cast<size_t>(e)];
         n < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++n) {
      const int64_t t = pairs.token[static_cast<size_t>(n)];
      const double scale = 16.0 / 2 * records[0].assignment.weight[n].item<double>();
      expected[t] += scale * b[e].mv(a[e].mv(x[0][t]));
    }
  }
  EXPECT_LT((all[0] - expected).abs().max().item<double>(), 1e-5);
  EXPECT_TRUE(at::equal(adapters.adapted("gate_proj", product, x, {context, records}), product));
  EXPECT_EQ(records.size(), 1u) << "no router is asked for what has no adapters";
}

TEST(AdaptedAttention, BeginsAsTheModelWithoutIt) {
  DecoderSpec plain = with_adapted_attention();
  for (FeedForwardSpec& layer : plain.layers)
    layer.experts = make_piece(expert_banks(), "lora", {{"width", int64_t{24}}, {"rank", int64_t{2}}});
  Decoder with(with_adapted_attention(), 3), without(plain, 3);
  const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
  EXPECT_TRUE(at::equal(logits_of(with, batch), logits_of(without, batch)));
  fill_adapters(with, 0.2);
  EXPECT_FALSE(at::equal(logits_of(with, batch), logits_of(without, batch)));
}

TEST(AdaptedAttention, GoesOnTokenByTokenAndIsRestored) {
  TemporaryFolder folder;
  Decoder model(with_adapted_attention(), 4);
  fill_adapters(model, 0.2);
  const Tensor tokens = random_tokens(1, 12, 40, 2);
  const Tensor whole = logits_of(model, {.tokens = tokens});
  std::vector<KeyValueCache> cache(2);
  for (int64_t t = 0; t < 12; ++t) {
    const Tensor one = logits_of(model, {.tokens = tokens.slice(1, t, t + 1)}, {.cache = &cache});
    EXPECT_LT((one.select(1, 0) - whole.select(1, t)).abs().max().item<double>(), 1e-4) << t;
  }
  save_model(folder.path(), model, "{}");
  Decoder loaded = load_decoder(folder.path());
  EXPECT_TRUE(at::equal(logits_of(loaded, {.tokens = tokens}), whole));
}

TEST(AdaptedAttention, IsRefusedWhereAttentionIsNotPlain) {
  const auto problem = [](const std::vector<std::string>& more) {
    std::vector<std::string> settings = {"experts.bank=lora", R"(experts.adapted=["up","q"])"};
    settings.insert(settings.end(), more.begin(), more.end());
    return error_of([&] { small_recipe(settings); });
  };
  EXPECT_THAT(problem({"model.attention=selective", "model.qk_norm=none"}),
              HasSubstr("leave q, k, v and o out of experts.adapted"));
  EXPECT_THAT(problem({"routing.scorer=recurrent"}), HasSubstr("take scorer = \"linear\""));
  EXPECT_THAT(problem({R"(experts.adapted=["x"])"}), HasSubstr("adapted"));
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

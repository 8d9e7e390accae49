// Whole decoders whose layers route in several rounds (Chain-of-Experts): records, names in files, counts,
// generation, recipes.
#include <gmock/gmock.h>

#include <set>

#include "gatewright/evaluate/router_diagnostics.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/configuration_json.h"
#include "gatewright/routing/statistics.h"
#include "gatewright/train/recipe.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Layer 0 with two rounds of one expert each, layer 1 ordinary with two experts.
DecoderSpec chain_spec(const RoundsSpec& rounds = {.rounds = 2, .residual = RoundResidual::kInner}) {
  DecoderSpec spec = tiny_spec(2);
  FeedForwardSpec& layer = spec.layers[0];
  layer.rounds = rounds;
  layer.router.scorer = make_piece(scorers(), "linear", {{"init", 0.5}});
  layer.router.selector = make_piece(choice::selectors(), "top_k", {{"top_k", int64_t{1}}});
  layer.router.weights = {};
  layer.router.balance = {make_piece(balance_terms(), "switch",
                                     {{"scope", "sequence"}, {"fraction", "choices"}, {"weight", 0.001}})};
  layer.expert_decorators = {make_piece(expert_bank_decorators(), "shared", {{"width", int64_t{8}}})};
  return spec;
}

const RoundsSpec kVariants[] = {{.rounds = 2, .residual = RoundResidual::kInner},
                                {.rounds = 3, .residual = RoundResidual::kInnerStream},
                                {.rounds = 2, .residual = RoundResidual::kOuter},
                                {.rounds = 2, .residual = RoundResidual::kInner, .independent_gating = false},
                                {.rounds = 1, .residual = RoundResidual::kInner}};

TEST(ChainOfExperts, GivesARecordForEachRound) {
  Decoder model(chain_spec(), 1);
  const Batch batch{.tokens = random_tokens(2, 7, 40, 1)};
  const DecoderOutput output = model.forward(batch, {.training = true});
  ASSERT_EQ(output.routing.size(), 3u);
  const std::vector<std::pair<int64_t, int64_t>> expected = {{0, 0}, {0, 1}, {1, 0}};
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::pair(output.routing[i].layer, output.routing[i].round), expected[i]);
  EXPECT_NEAR(
      output.balance_loss.item<double>(),
      0.001 * (output.routing[0].balance[0].value + output.routing[1].balance[0].value).item<double>(), 1e-8);
  RoutingStatistics statistics;
  statistics.add(output.routing);
  EXPECT_EQ(statistics.layers().size(), 3u);
  EXPECT_EQ(statistics.layers()[1].tokens, 14);
  const TraceHeader header = trace_header(model.spec(), {});
  ASSERT_EQ(header.layers.size(), 3u);
  EXPECT_EQ(header.layers[1].layer, 0);
  EXPECT_EQ(header.layers[1].round, 1);
  const Tensor together = co_activation(output.routing[0], output.routing[1]);
  EXPECT_EQ(together.sizes(), (std::vector<int64_t>{4, 4}));
  EXPECT_EQ(together.sum().item<double>(), 14) << "one expert in each round";
}

TEST(ChainOfExperts, AMeanOverLayersCountsEveryRound) {
  DecoderSpec spec = chain_spec();
  for (FeedForwardSpec& layer : spec.layers)
    layer.router.balance = {
        make_piece(balance_terms(), "z_loss", {{"weight", 3.0}, {"over_layers", "mean"}})};
  Decoder model(spec, 1);
  const DecoderOutput output = model.forward({.tokens = random_tokens(2, 7, 40, 1)}, {.training = true});
  double sum = 0;
  for (const RoutingRecord& r : output.routing) sum += r.balance[0].value.item<double>();
  EXPECT_NEAR(output.balance_loss.item<double>(), sum, 1e-5 * sum) << "3 x the mean of three";
}

TEST(ChainOfExperts, IsSavedUnderTheNamesOfItsOwnCheckpoints) {
  const std::vector<std::string> own = names_of(Decoder(chain_spec(), 1).parameters());
  for (const char* name :
       {"model.layers.0.mlp.gate.0.weight", "model.layers.0.mlp.gate.1.weight",
        "model.layers.0.mlp.experts.{}.gate_proj.weight", "model.layers.0.mlp.experts.{}.down_proj.weight",
        "model.layers.0.mlp.shared_experts.up_proj.weight", "model.layers.1.mlp.gate.weight"})
    EXPECT_EQ(std::ranges::count(own, name), 1) << name;
  const std::vector<std::string> shared = names_of(Decoder(chain_spec(kVariants[3]), 1).parameters());
  EXPECT_EQ(std::ranges::count(shared, "model.layers.0.mlp.gate.weight"), 1);
  EXPECT_EQ(std::ranges::count_if(shared, [](const auto& n) { return n.find("gate.1") != n.npos; }), 0);
  DecoderSpec gain = chain_spec();
  gain.layers[0].router.activation = choice::Activation::kReluRms;
  const std::vector<std::string> gains = names_of(Decoder(gain, 1).parameters());
  EXPECT_EQ(std::ranges::count(gains, "model.layers.0.mlp.router_norm.1.weight"), 1);
  EXPECT_EQ(std::set<std::string>(gains.begin(), gains.end()).size(), gains.size()) << "all different";
}

TEST(ChainOfExperts, IsRestoredBitForBit) {
  for (const RoundsSpec& rounds : kVariants) {
    TemporaryFolder folder;
    Decoder model(chain_spec(rounds), 3);
    save_model(folder.path(), model, "{}");
    Decoder loaded = load_decoder(folder.path());
    EXPECT_EQ(loaded.spec().layers[0].rounds, rounds);
    EXPECT_EQ(loaded.spec().layers[1].rounds, RoundsSpec{});
    const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
    EXPECT_TRUE(at::equal(logits_of(loaded, batch), logits_of(model, batch)));
    EXPECT_EQ(count_parameters(model.spec()).total, model.num_parameters());
  }
}

TEST(ChainOfExperts, GenerationWithACacheEqualsTheWholeForward) {
  std::vector<DecoderSpec> specs;
  for (const RoundsSpec& rounds : kVariants) specs.push_back(chain_spec(rounds));
  // A recurrent router takes its step of depth in every round.
  specs.push_back(chain_spec());
  for (FeedForwardSpec& layer : specs.back().layers)
    layer.router.scorer = make_piece(scorers(), "recurrent", {{"recurrent_size", int64_t{6}}, {"init", 0.6}});
  for (const DecoderSpec& spec : specs) {
    Decoder model(spec, 3);
    const Tensor tokens = random_tokens(2, 12, 40, 4);
    const Tensor whole = logits_of(model, {.tokens = tokens});
    std::vector<KeyValueCache> cache(2);
    int64_t begin = 0;
    for (const int64_t size : {5, 1, 6}) {
      const Tensor part =
          logits_of(model, {.tokens = tokens.slice(1, begin, begin + size)}, {.cache = &cache});
      EXPECT_LT(distance(part, whole.slice(1, begin, begin + size)), 1e-4) << "from " << begin;
      begin += size;
    }
  }
}

TEST(ChainOfExperts, ARecurrentRouterPassesItsStateFromRoundToRound) {
  DecoderSpec spec = chain_spec();
  const auto with = [&](const char* state) {
    spec.layers[0].router.scorer =
        make_piece(scorers(), "recurrent",
                   {{"recurrent_size", int64_t{6}}, {"init", 0.6}, {"state", std::string(state)}});
    Decoder model(spec, 3);
    return model.forward({.tokens = random_tokens(1, 9, 40, 1)}).routing;
  };
  const auto passed = with("passed"), alone = with("not_passing");
  EXPECT_TRUE(at::equal(passed[0].scores.logits, alone[0].scores.logits));
  EXPECT_GT(distance(passed[1].scores.logits, alone[1].scores.logits), 1e-3);
}

TEST(ChainOfExperts, ParametersGrowByTheRoutersOnly) {
  // CoE(2, 4, 48) against MoE(8, 64), at the width of the published runs.
  constexpr int64_t kHidden = 1024, kWidth = 704;
  const auto spec_of = [&](int64_t rounds, int64_t top_k, int64_t experts) {
    DecoderSpec spec = tiny_spec(1);
    spec.hidden_size = kHidden;
    spec.layers[0].num_experts = experts;
    spec.layers[0].experts = make_piece(expert_banks(), "swiglu", {{"width", kWidth}});
    spec.layers[0].router.selector = make_piece(choice::selectors(), "top_k", {{"top_k", top_k}});
    spec.layers[0].rounds = {.rounds = rounds};
    return spec;
  };
  constexpr int64_t kExpert = 3 * kHidden * kWidth;
  const ParameterCounts chain = count_parameters(spec_of(2, 4, 48)),
                        plain = count_parameters(spec_of(1, 8, 64)),
                        small = count_parameters(spec_of(1, 4, 48));
  EXPECT_EQ(chain.total - small.total, 48 * kHidden) << "the second router";
  EXPECT_EQ(plain.total - chain.total, 16 * (kExpert + kHidden) - 48 * kHidden);
  EXPECT_EQ(chain.active - small.active, 4 * kExpert + 48 * kHidden) << "twice four experts";
  const ParameterCounts all = count_parameters(spec_of(2, 48, 48));
  EXPECT_EQ(all.active, all.total) << "no expert counts twice";
}

TEST(ChainOfExperts, ConfigurationsOfOrdinaryLayersStayAsTheyWere) {
  EXPECT_FALSE(feed_forward_to_json(tiny_routed_layer()).contains("rounds"));
  const auto refused = [](const char* rounds) {
    Json json = Json::parse(to_config_json(chain_spec()).dump());
    json["gatewright"]["layers"][0]["rounds"] = Json::parse(rounds);
    return error_of([&] { parse_config_json(json.dump(), "config.json"); });
  };
  EXPECT_THAT(refused(R"({"count": 0, "residual": "inner", "independent_gating": true})"),
              HasSubstr("'count' must be in [1, 64], got 0"));
  EXPECT_THAT(refused(R"({"count": 2, "residual": "upper", "independent_gating": true})"),
              HasSubstr("there is no residual 'upper'"));
  EXPECT_THAT(refused(R"({"count": 2, "residual": "inner", "independent_gating": 1})"),
              HasSubstr("wrong type"));
  EXPECT_THAT(refused(R"({"times": 2})"), HasSubstr("is not a key of 'rounds'"));
}

Recipe recipe_with_rounds(const std::string& routing, const std::vector<std::string>& settings = {}) {
  return make_recipe(
      "[model]\nhidden_size = 32\nnum_layers = 2\n[experts]\nnum_experts = 4\nwidth = 8\n[routing]\n" +
          routing,
      "recipe", settings);
}

TEST(ChainOfExperts, IsThreeKeysOfARecipe) {
  EXPECT_EQ(recipe_with_rounds("").model.layers[0].rounds, RoundsSpec{});
  EXPECT_EQ(recipe_with_rounds("rounds = 2").model.layers[0].rounds, kVariants[0]) << "inner as released";
  EXPECT_EQ(recipe_with_rounds("rounds = 3\nresidual = \"inner_stream\"").model.layers[1].rounds,
            kVariants[1]);
  EXPECT_EQ(recipe_with_rounds("rounds = 2\nindependent_gating = false").model.layers[0].rounds,
            kVariants[3]);
  EXPECT_EQ(recipe_with_rounds("residual = \"outer\"").model.layers[0].rounds.residual,
            RoundResidual::kOuter);
}

TEST(ChainOfExperts, RefusesWhatMakesNoSense) {
  const auto problem = [](const std::string& routing) {
    return error_of([&] { recipe_with_rounds(routing); });
  };
  EXPECT_THAT(problem("rounds = 0"), AllOf(HasSubstr("recipe:8"), HasSubstr("rounds must")));
  EXPECT_THAT(problem("rounds = 2\ntop_k = 5"), HasSubstr("top_k = 5 of 4 experts; choose at most 4"));
  EXPECT_THAT(problem("rounds = 2\nresidual = \"inside\""),
              HasSubstr("routing.residual must be one of inner, inner_stream, outer"));
  EXPECT_THAT(problem("rounds = 2\nscorer = \"hash\""),
              AllOf(HasSubstr("recipe:8"), HasSubstr("take scorer = \"linear\", or rounds = 1")));
}

}  // namespace
}  // namespace gatewright

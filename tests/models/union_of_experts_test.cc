// Whole decoders as unions of experts: heads and slices of the feed-forward that a router chooses.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "gatewright/evaluate/trace_of.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/configuration_json.h"
#include "gatewright/train/recipe.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

RouterSpec gate(int64_t top_k, bool straight_through = false) {
  return {.scorer = make_piece(scorers(), "linear", {{"bias", true}, {"init", 0.5}}),
          .selector = make_piece(choice::selectors(), "top_k", {{"top_k", top_k}}),
          .weights = {.weighting = choice::Weighting::kOne, .straight_through = straight_through}};
}

/// Four heads and four slices of a SwiGLU feed-forward of width 48, of which each token uses so many.
DecoderSpec union_spec(int64_t heads = 2, int64_t slices = 2, bool straight_through = false) {
  DecoderSpec spec = tiny_spec(2);
  spec.num_kv_heads = 4;
  spec.query_key_norm = QueryKeyNorm::kHead;
  spec.selective_attention = SelectiveAttentionSpec{.router = gate(heads, straight_through), .init = 0.3};
  for (FeedForwardSpec& layer : spec.layers) {
    layer.experts =
        make_piece(expert_banks(), "mlp_union",
                   {{"width", int64_t{48}}, {"activation", "swiglu"}, {"biases", false}, {"init", 0.3}});
    layer.router = gate(slices, straight_through);
  }
  return spec;
}

/// The dense decoder with the same weights.
Decoder dense_twin(const Decoder& model) {
  DecoderSpec spec = model.spec();
  spec.selective_attention.reset();
  spec.layers.assign(spec.layers.size(), {.routed = false, .dense_width = 48});
  Decoder dense(spec, 9);
  std::map<std::string, Tensor> given;
  for (const NamedTensor& p : model.parameters()) given[p.name] = p.tensor;
  const at::NoGradGuard no_grad;
  for (const NamedTensor& p : dense.parameters()) p.tensor.copy_(given.at(p.name));
  return dense;
}

TEST(UnionOfExperts, TracesSayWhichHeadsATokenUses) {
  Decoder model(union_spec(3, 2), 1);
  const TraceHeader header = trace_header(model.spec(), {});
  ASSERT_EQ(header.layers.size(), 4u);
  EXPECT_EQ(header.layers[1].part, "");
  for (const size_t i : {2, 3}) {
    EXPECT_EQ(header.layers[i].part, "heads");
    EXPECT_EQ(header.layers[i].layer, static_cast<int64_t>(i) - 2);
    EXPECT_EQ(header.layers[i].num_experts, 4);
  }
  const at::NoGradGuard no_grad;
  const DecoderOutput output = model.forward({.tokens = random_tokens(1, 5, 40, 2)});
  const PackedBatch packed{.sequences = 1,
                           .length = 5,
                           .tokens = {1, 2, 3, 4, 5},
                           .targets = {2, 3, 4, 5, 6},
                           .first_key = {0, 0, 0, 0, 0},
                           .domain = {0, 0, 0, 0, 0},
                           .domain_bytes = {}};
  const TraceBatch trace = trace_of(packed, traced_records(output));
  ASSERT_EQ(trace.layers.size(), 4u);
  EXPECT_EQ(trace.layers[1].expert.size(), 10u) << "two slices a token";
  EXPECT_EQ(trace.layers[3].expert.size(), 15u) << "three heads a token";
  EXPECT_EQ(trace.layers[3].expert, layer_trace(output.attention[1]).expert);
}

TEST(UnionOfExperts, OfAllHeadsAndSlicesIsTheDenseModel) {
  Decoder model(union_spec(4, 4), 1), dense = dense_twin(model);
  Tensor first = at::zeros({2, 11}, at::kInt);
  first.slice(1, 6).fill_(6);
  const Batch batch{.tokens = random_tokens(2, 11, 40, 2), .first_key = first};
  EXPECT_LT(distance(logits_of(model, batch), logits_of(dense, batch)), 1e-4);
  Decoder some(union_spec(2, 2), 1);
  EXPECT_GT(distance(logits_of(some, batch), logits_of(dense, batch)), 1e-2);
}

TEST(UnionOfExperts, GivesARecordOfHeadsForEachLayer) {
  Decoder model(union_spec(1, 3), 1);
  const DecoderOutput output = model.forward({.tokens = random_tokens(2, 7, 40, 1)});
  ASSERT_EQ(output.attention.size(), 2u);
  ASSERT_EQ(output.routing.size(), 2u);
  EXPECT_EQ(output.attention[1].layer, 1);
  EXPECT_EQ(output.attention[1].assignment.num_pairs(), 14) << "one head a token";
  EXPECT_EQ(output.routing[1].assignment.num_pairs(), 3 * 14);
  EXPECT_TRUE(at::equal(output.attention[0].assignment.weight, at::ones({14})));
}

TEST(UnionOfExperts, ATokenWithoutHeadsAndSlicesIsItsResidual) {
  DecoderSpec spec = union_spec();
  // Nobody's probability exceeds 0.99999, so that no head and no slice serves a token.
  const Piece nobody =
      make_piece(choice::selectors(), "threshold", {{"threshold", 0.99999}, {"min_experts", int64_t{0}}});
  spec.selective_attention->router.selector = nobody;
  for (FeedForwardSpec& layer : spec.layers) layer.router.selector = nobody;
  Decoder a(spec, 1);
  spec.layers.resize(1);
  Decoder b(spec, 1);
  const Batch batch{.tokens = random_tokens(1, 6, 40, 1)};
  EXPECT_EQ(a.forward(batch).attention[0].assignment.num_pairs(), 0);
  EXPECT_TRUE(at::equal(a.forward(batch).hidden, b.forward(batch).hidden))
      << "the second layer changes nothing";
}

TEST(UnionOfExperts, TokenChoiceIsCausal) {
  Decoder model(union_spec(), 2);
  const Tensor tokens = random_tokens(1, 12, 40, 3);
  const Tensor before = logits_of(model, {.tokens = tokens});
  for (const int64_t changed : {11, 6, 1}) {
    Tensor other = tokens.clone();
    other[0][changed] = (other[0][changed] + 1) % 40;
    const Tensor after = logits_of(model, {.tokens = other});
    EXPECT_LT(distance(after.slice(1, 0, changed), before.slice(1, 0, changed)), 1e-5);
    EXPECT_GT(distance(after.select(1, changed), before.select(1, changed)), 1e-3);
  }
}

TEST(UnionOfExperts, CapacityIsNot) {
  for (const bool of_heads : {true, false}) {
    DecoderSpec spec = union_spec();
    const Piece capacity = make_piece(choice::selector_decorators(), "data_selection", {{"share", 0.5}});
    if (of_heads) spec.selective_attention->router.decorators = {capacity};
    for (FeedForwardSpec& layer : spec.layers) {
      if (!of_heads) layer.router.decorators = {capacity};
    }
    Decoder model(spec, 2);
    const Tensor tokens = random_tokens(1, 12, 40, 3);
    const Tensor before = logits_of(model, {.tokens = tokens});
    double largest = 0;
    for (int64_t id = 0; id < 40; ++id) {
      Tensor other = tokens.clone();
      other[0][11] = id;
      largest = std::max(
          largest, distance(logits_of(model, {.tokens = other}).slice(1, 0, 11), before.slice(1, 0, 11)));
    }
    EXPECT_GT(largest, 1e-3) << "the last token decides which earlier ones are served";
  }
}

TEST(UnionOfExperts, GenerationWithACacheEqualsTheWholeForward) {
  for (const bool subsequence : {false, true}) {
    for (const int64_t window : {0, 4}) {
      DecoderSpec spec = union_spec();
      spec.selective_attention->subsequence_positions = subsequence;
      spec.sliding_window = window;
      Decoder model(spec, 3);
      const Tensor tokens = random_tokens(2, 90, 40, 4);
      const Tensor whole = logits_of(model, {.tokens = tokens});
      std::vector<KeyValueCache> cache(2);
      int64_t begin = 0;
      for (const int64_t size : {5, 1, 1, 70, 13}) {
        const Tensor part =
            logits_of(model, {.tokens = tokens.slice(1, begin, begin + size)}, {.cache = &cache});
        EXPECT_LT(distance(part, whole.slice(1, begin, begin + size)), 2e-4) << "from " << begin;
        begin += size;
      }
    }
  }
}

TEST(UnionOfExperts, WhatLooksAtAWholeTextCantGenerate) {
  const auto error = [](const DecoderSpec& spec) {
    Decoder model(spec, 3);
    std::vector<KeyValueCache> cache(2);
    return error_of([&] {
      logits_of(model, {.tokens = random_tokens(1, 6, 40, 4)}, {.cache = &cache});
      logits_of(model, {.tokens = random_tokens(1, 1, 40, 4)}, {.cache = &cache});
    });
  };
  DecoderSpec heads = union_spec();
  heads.selective_attention->router.decorators = {
      make_piece(choice::selector_decorators(), "data_selection")};
  EXPECT_THAT(error(heads), AllOf(HasSubstr("model.layers.0.self_attn"), HasSubstr("can't be continued")));
  DecoderSpec patches = union_spec();
  for (FeedForwardSpec& layer : patches.layers)
    layer.router.scorer = make_piece(scorers(), "patch_linear", {{"patch_length", int64_t{3}}});
  EXPECT_THAT(error(patches), HasSubstr("the scorer patch_linear chooses for 3 tokens together"));
}

TEST(UnionOfExperts, TheGateLearnsStraightThroughAndChangesNothing) {
  const Batch batch{.tokens = random_tokens(2, 9, 40, 5)};
  Decoder released(union_spec(), 4), learning(union_spec(2, 2, true), 4);
  for (Decoder* model : {&released, &learning})
    model->forward(batch, {.training = true}).hidden.square().sum().backward();
  EXPECT_TRUE(at::equal(logits_of(released, batch), logits_of(learning, batch))) << "bit for bit";
  int gates = 0;
  const ParameterList a = released.parameters(), b = learning.parameters();
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].name.find(".gate.") == std::string::npos) continue;
    ++gates;
    EXPECT_FALSE(a[i].tensor.grad().defined()) << a[i].name << " stays at its initial value";
    EXPECT_GT(b[i].tensor.grad().abs().max().item<double>(), 0) << b[i].name;
  }
  EXPECT_EQ(gates, 2 * 2 * 2) << "weight and bias, heads and slices, two layers";
}

TEST(UnionOfExperts, BalanceTermsOfHeadsAreAdded) {
  DecoderSpec spec = union_spec(2, 2, true);
  spec.selective_attention->router.balance = {make_piece(balance_terms(), "switch", {{"weight", 0.01}})};
  Decoder model(spec, 4);
  const DecoderOutput output = model.forward({.tokens = random_tokens(2, 9, 40, 5)}, {.training = true});
  const double sum = output.attention[0].balance[0].value.item<double>() +
                     output.attention[1].balance[0].value.item<double>();
  EXPECT_NEAR(output.balance_loss.item<double>(), 0.01 * sum, 1e-6);
}

TEST(UnionOfExperts, IsStoredAsTheDenseModelWithItsGates) {
  TemporaryFolder folder;
  DecoderSpec spec = union_spec();
  spec.selective_attention->subsequence_positions = true;
  Decoder model(spec, 3);
  std::set<std::string> names, dense_names;
  for (const NamedTensor& p : model.parameters()) names.insert(p.name);
  for (const NamedTensor& p : dense_twin(model).parameters()) dense_names.insert(p.name);
  for (const char* name : {"model.layers.1.self_attn.gate.weight", "model.layers.1.self_attn.gate.bias",
                           "model.layers.1.mlp.gate.weight", "model.layers.0.mlp.gate.bias"})
    EXPECT_TRUE(names.erase(name)) << name;
  EXPECT_EQ(names.size(), dense_names.size() + 4) << "the gates of the other layer";
  save_model(folder.path(), model, "{}");
  Decoder loaded = load_decoder(folder.path());
  const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
  EXPECT_TRUE(at::equal(logits_of(loaded, batch), logits_of(model, batch)));
  EXPECT_EQ(to_config_json(loaded.spec()).dump(), to_config_json(model.spec()).dump());
}

TEST(UnionOfExperts, CountsHalfOfHeadsAndSlicesAsActive) {
  for (const bool biases : {false, true}) {
    DecoderSpec spec = union_spec();
    for (FeedForwardSpec& layer : spec.layers) {
      layer.experts.values.set("biases", biases);
      if (biases) layer.experts.values.set("activation", std::string("gelu"));
    }
    Decoder model(spec, 3);
    const ParameterCounts counts = count_parameters(spec);
    EXPECT_EQ(counts.total, model.num_parameters());
    const int64_t heads = 4 * 32 * 32, slices = biases ? 48 * (2 * 32 + 1) : 48 * 3 * 32;
    EXPECT_EQ(counts.total - counts.active, 2 * (heads + slices) / 2);
  }
}

Recipe recipe_with_attention(const std::string& attention, const std::vector<std::string>& settings = {}) {
  std::vector<std::string> all = {"model.attention=selective", "model.qk_norm=none"};
  all.insert(all.end(), settings.begin(), settings.end());
  return make_recipe(
      "[model]\nhidden_size = 32\nnum_layers = 2\nnum_heads = 4\n[experts]\nbank = "
      "\"mlp_union\"\nnum_experts = 4\n"
      "width = 48\n[routing]\nweights = \"one\"\n[attention]\n" +
          attention,
      "recipe", all);
}

TEST(UnionOfExperts, HasTheDefaultsOfTheReleasedCode) {
  const DecoderSpec model = recipe_with_attention("").model;
  ASSERT_TRUE(model.selective_attention);
  const RouterSpec& heads = model.selective_attention->router;
  EXPECT_EQ(heads.selector.values.integer("top_k"), 2) << "half of the heads";
  EXPECT_TRUE(heads.scorer.values.flag("bias"));
  EXPECT_EQ(heads.scorer.values.text("init_rule"), "kaiming_uniform");
  EXPECT_EQ(heads.weights.weighting, choice::Weighting::kOne);
  EXPECT_FALSE(heads.weights.straight_through) << "gate_gradient = none";
  EXPECT_TRUE(heads.decorators.empty()) << "token choice";
  EXPECT_FALSE(model.selective_attention->subsequence_positions);
  const Values selection = make_piece(choice::selector_decorators(), "data_selection").values;
  EXPECT_EQ(selection.number("capacity_factor"), 1.0);
  EXPECT_EQ(selection.text("normalisation"), "experts");
  EXPECT_EQ(model.layers[0].experts.values.text("activation"), "gelu");
  EXPECT_EQ(make_piece(scorers(), "patch_linear").values.integer("patch_length"), 60);
}

TEST(UnionOfExperts, ReadsTheGateOfHeadsLikeAnyRouter) {
  const RouterSpec router =
      recipe_with_attention(
          "scorer = \"cosine\"\nselector = \"top_p\"\ntop_p = 0.6\ngate_gradient = \"straight_through\"\n"
          "[attention.jitter]\nepsilon = 0.1\n[attention.data_selection]\nshare = 0.5\n"
          "[attention.balance.switch]\nweight = 0.02")
          .model.selective_attention->router;
  EXPECT_EQ(router.scorer.name, "cosine");
  EXPECT_EQ(router.selector.values.number("top_p"), 0.6);
  EXPECT_TRUE(router.weights.straight_through);
  ASSERT_EQ(router.decorators.size(), 2u);
  EXPECT_EQ(router.decorators[1].values.number("share"), 0.5);
  EXPECT_EQ(router.balance[0].values.number("weight"), 0.02);
}

TEST(UnionOfExperts, RefusesWhatMakesNoSense) {
  const auto problem = [](const std::string& attention, const std::vector<std::string>& settings = {}) {
    return error_of([&] { recipe_with_attention(attention, settings); });
  };
  EXPECT_THAT(problem("", {"model.attention=full"}),
              HasSubstr("[attention] is for model.attention = \"selective\""));
  EXPECT_THAT(problem("top_k = 5"),
              AllOf(HasSubstr("recipe:12"), HasSubstr("attention: top_k = 5 of 4 experts")));
  EXPECT_THAT(problem("", {"model.qk_norm=projection"}), HasSubstr("set qk_norm = \"head\" or \"none\""));
  EXPECT_THAT(problem("", {"model.num_kv_heads=2"}), HasSubstr("leave num_kv_heads out"));
  EXPECT_THAT(problem("scorer = \"recurrent\""), HasSubstr("take scorer = \"linear\" in [attention]"));
  EXPECT_THAT(problem("", {"experts.width=50"}), HasSubstr("give a width that is a multiple of 4"));
  EXPECT_THAT(problem("", {"model.num_heads=5"}), HasSubstr("is no multiple of"));
  EXPECT_THAT(problem("", {"routing.weights=as_is", "routing.gate_gradient=straight_through"}),
              HasSubstr("set weights = \"one\", or leave gate_gradient out"));
  EXPECT_THAT(problem("heads = 2"), HasSubstr("attention.heads is not a key of [attention]"));
}

TEST(UnionOfExperts, RefusesConfigurationsThatAreWrong) {
  const auto refused = [](const char* key, const Json& value) {
    Json json = Json::parse(to_config_json(union_spec()).dump());
    json["gatewright"]["attention"][key] = value;
    return error_of([&] { parse_config_json(json.dump(), "config.json"); });
  };
  EXPECT_THAT(refused("kind", "sparse"), HasSubstr("kind must be selective"));
  EXPECT_THAT(refused("positions", "none"), HasSubstr("'positions' must be original or subsequence"));
  EXPECT_THAT(refused("init", -1), HasSubstr("must not be negative"));
  EXPECT_THAT(refused("heads", 3), HasSubstr("is not a key of 'attention'"));
}

}  // namespace
}  // namespace gatewright

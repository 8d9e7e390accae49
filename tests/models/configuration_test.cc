#include "gatewright/models/configuration.h"

#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/models/configuration_json.h"
#include "gatewright/models/presets.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

DecoderSpec read_back(const DecoderSpec& spec) {
  return parse_config_json(to_config_json(spec).dump(), "config.json");
}

DecoderSpec preset(const std::string& name) { return model_presets().at(name).make(0); }

/// Everything that both writers say.
void expect_same(const DecoderSpec& a, const DecoderSpec& b) {
  EXPECT_EQ(to_config_json(a).dump(1), to_config_json(b).dump(1));
  EXPECT_EQ(a.initializer_range, b.initializer_range);
  EXPECT_EQ(a.rotary.theta, b.rotary.theta);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.layers.size(), b.layers.size());
  EXPECT_EQ(count_parameters(a).total, count_parameters(b).total);
  EXPECT_EQ(count_parameters(a).active, count_parameters(b).active);
}

TEST(Configuration, EveryPresetComesBackFromItsJson) {
  for (const auto& entry : model_presets().entries()) {
    SCOPED_TRACE(entry.spec.name);
    expect_same(read_back(entry.make(0)), entry.make(0));
    EXPECT_EQ(entry.make(777).vocab_size, 777);
  }
}

TEST(Configuration, LayersThatDifferComeBackWithTheirPieces) {
  DecoderSpec spec = tiny_spec(3);
  spec.sliding_window = 5;
  spec.query_key_norm = QueryKeyNorm::kHead;
  spec.rotary.theta = 12345.678901234567;
  spec.rms_norm_eps = 1e-6;
  spec.layers[0] = {.routed = false, .dense_width = 100};
  FeedForwardSpec& layer = spec.layers[2];
  layer.num_experts = 6;
  layer.experts = make_piece(expert_banks(), "gelu", {{"width", int64_t{8}}, {"biases", true}});
  layer.expert_decorators = {make_piece(expert_bank_decorators(), "shared", {{"gate", true}})};
  layer.router.scorer = make_piece(scorers(), "mlp");
  layer.router.selector = make_piece(choice::selectors(), "top_p", {{"top_p", 0.7}});
  layer.router.activation = choice::Activation::kSigmoid;
  layer.router.weights = {.weighting = choice::Weighting::kAsIs, .scale = 2.5};
  layer.router.decorators = {
      make_piece(scorer_decorators(), "omit", {{"experts", std::vector<int64_t>{1, 3}}})};
  layer.router.balance = {make_piece(balance_terms(), "switch", {{"weight", 0.125}})};
  const DecoderSpec again = read_back(spec);
  expect_same(again, spec);
  EXPECT_EQ(again.layers[2].router.decorators[0].values.integers("experts"), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(again.layers[2].router.weights.scale, 2.5);
  EXPECT_EQ(again.layers[2].router.balance[0].values.number("weight"), 0.125);
  EXPECT_FALSE(again.layers[0].routed);
}

// --- parameter counts ---

/// Published figures in billions; their last digit may be rounded or cut.
void expect_billions(const std::string& name, double total, double active, double digit) {
  const ParameterCounts counts = count_parameters(preset(name));
  EXPECT_NEAR(static_cast<double>(counts.total) / 1e9, total, digit / 2) << name;
  EXPECT_NEAR(static_cast<double>(counts.active) / 1e9, active, digit) << name;
}

TEST(ParameterCounts, OfLargePresetsAreThePublishedOnes) {
  expect_billions("olmoe-1b-7b", 6.92, 1.28, 0.01);
  expect_billions("mixtral-8x7b", 46.7, 12.9, 0.1);
  expect_billions("qwen3-30b-a3b", 30.5, 3.3, 0.1);
  // The number of elements in the published files.
  EXPECT_EQ(count_parameters(preset("olmoe-1b-7b")).total, 6'919'161'856);
  EXPECT_EQ(count_parameters(preset("mixtral-8x7b")).total, 46'702'792'704);
  EXPECT_EQ(count_parameters(preset("qwen3-30b-a3b")).total, 30'532'122'624);
}

TEST(ParameterCounts, OfOlmoeAreThoseOfItsTensors) {
  // By hand: embedding and head 50304 x 2048; in each of 16 layers four 2048 x 2048 projections, two norms of
  // 2048 and two of queries and keys, a router 64 x 2048 and 64 experts of three 2048 x 1024 matrices; the
  // last norm.
  const int64_t layer = 4 * 2048 * 2048 + 4 * 2048 + 64 * 2048, expert = 3 * 2048 * 1024;
  const int64_t outside = 2 * 50304 * 2048 + 2048;
  const ParameterCounts counts = count_parameters(preset("olmoe-1b-7b"));
  EXPECT_EQ(counts.total, outside + 16 * (layer + 64 * expert));
  EXPECT_EQ(counts.active, outside + 16 * (layer + 8 * expert));
}

TEST(ParameterCounts, AreWhatABuiltModelHas) {
  std::vector<DecoderSpec> specs = {preset("tiny"), preset("tiny-dense"), tiny_spec(), tiny_dense_spec()};
  for (const char* bank : {"swiglu", "gelu", "relu"}) {
    for (const bool biases : {false, true}) {
      specs.push_back(tiny_spec(1));
      specs.back().layers[0].experts = make_piece(expert_banks(), bank, {{"biases", biases}});
    }
  }
  for (const char* scorer : {"linear", "cosine", "mlp", "hash", "random", "recurrent", "mixture"}) {
    specs.push_back(tiny_spec(1));
    specs.back().layers[0].router.scorer = make_piece(scorers(), scorer);
  }
  specs.push_back(tiny_spec(1));
  specs.back().layers[0].router.scorer = make_piece(scorers(), "linear", {{"bias", true}});
  specs.push_back(tiny_spec(1));
  specs.back().layers[0].router.decorators = {make_piece(scorer_decorators(), "noise", {{"learned", true}})};
  for (const char* activation : {"swiglu", "gelu", "relu"}) {
    specs.push_back(tiny_spec(1));
    specs.back().layers[0].expert_decorators = {make_piece(
        expert_bank_decorators(), "shared",
        {{"activation", activation}, {"num_shared", int64_t{2}}, {"gate", true}, {"biases", true}})};
  }
  for (const QueryKeyNorm norm : {QueryKeyNorm::kNone, QueryKeyNorm::kHead}) {
    specs.push_back(tiny_spec(1));
    specs.back().query_key_norm = norm;
    specs.back().tie_word_embeddings = true;
  }
  for (size_t i = 0; i < specs.size(); ++i)
    EXPECT_EQ(count_parameters(specs[i]).total, Decoder(specs[i], 1).num_parameters())
        << "specification " << i;
}

TEST(ParameterCounts, ActiveOnesFollowTheSelector) {
  DecoderSpec spec = tiny_spec(1);
  const int64_t expert = 3 * 32 * 24;
  const auto active_with = [&](const std::string& selector, const Given& given) {
    spec.layers[0].router.selector = make_piece(choice::selectors(), selector, given);
    return count_parameters(spec).active;
  };
  const int64_t one = active_with("top_k", {{"top_k", int64_t{1}}});
  EXPECT_EQ(active_with("top_k", {{"top_k", int64_t{3}}}), one + 2 * expert);
  EXPECT_EQ(active_with("all", {}), one + 3 * expert);
  EXPECT_EQ(active_with("random", {{"top_k", int64_t{2}}}), one + expert);
}

TEST(ParameterCounts, ThatDoNotFitAreAnErrorAndNoWrap) {
  DecoderSpec spec = tiny_spec(2);
  spec.hidden_size = spec.vocab_size = 1 << 24;
  for (FeedForwardSpec& layer : spec.layers) {
    layer.num_experts = 65536;
    layer.experts = make_piece(expert_banks(), "swiglu", {{"width", int64_t{1} << 20}});
  }
  EXPECT_NO_THROW(count_parameters(spec));
  spec.layers.resize(1024, spec.layers[0]);
  EXPECT_THAT(error_of([&] { count_parameters(spec); }), HasSubstr("the model's number of parameters"));
}

// --- plain OLMoE ---

/// The keys of the published OLMoE-1B-7B-0924.
Json olmoe_config() {
  return Json::parse(R"({
    "architectures": ["OlmoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "clip_qkv": null,
    "eos_token_id": 50279, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 1024, "max_position_embeddings": 4096, "model_type": "olmoe", "norm_topk_prob": false,
    "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16,
    "num_key_value_heads": 16, "output_router_logits": false, "pad_token_id": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": null, "rope_theta": 10000.0, "router_aux_loss_coef": 0.01, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 50304})");
}

std::string configuration_refusal(const Json& json) {
  const std::string message = error_of([&] { parse_config_json(json.dump(), "config.json"); });
  EXPECT_THAT(message, StartsWith("config.json"));
  EXPECT_LT(message.size(), 500u) << message;
  return message;
}

TEST(ConfigurationJson, APlainOlmoeIsRead) {
  const DecoderSpec spec = parse_config_json(olmoe_config().dump(), "config.json");
  EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::kProjection);
  EXPECT_EQ(spec.head_dim, 128);
  ASSERT_EQ(spec.num_layers(), 16);
  EXPECT_EQ(spec.layers[15].num_experts, 64);
  EXPECT_EQ(spec.layers[15].router.selector.values.integer("top_k"), 8);
  EXPECT_EQ(spec.layers[15].router.weights.weighting, choice::Weighting::kAsIs);
  EXPECT_NEAR(static_cast<double>(count_parameters(spec).total) / 1e9, 6.92, 0.005);
  Json renormalised = olmoe_config();
  renormalised["norm_topk_prob"] = true;
  EXPECT_EQ(parse_config_json(renormalised.dump(), "c").layers[0].router.weights.weighting,
            choice::Weighting::kRenormalised);
}

TEST(ConfigurationJson, WhatOlmoeCanRunSaysSoWithItsKeys) {
  const OrderedJson json = to_config_json(preset("olmoe-1b-7b"));
  Json plain = olmoe_config();
  for (const char* key : {"attention_dropout", "clip_qkv", "eos_token_id", "output_router_logits",
                          "pad_token_id", "rope_scaling", "torch_dtype", "use_cache"})
    plain.erase(key);
  for (const auto& [key, value] : plain.items()) EXPECT_EQ(Json::parse(json.dump())[key], value) << key;
  DecoderSpec other = preset("olmoe-1b-7b");
  other.layers[0].router.selector = make_piece(choice::selectors(), "top_p");
  EXPECT_EQ(to_config_json(other)["model_type"], "gatewright");
  EXPECT_FALSE(to_config_json(other).contains("num_experts_per_tok"));
}

TEST(ConfigurationJson, KeysThatWouldMakeAnotherFunctionAreRefused) {
  const auto with = [](const std::string& key, const Json& value) {
    Json json = olmoe_config();
    json[key] = value;
    return configuration_refusal(json);
  };
  EXPECT_THAT(with("clip_qkv", 8.0), HasSubstr("'clip_qkv' is not supported"));
  EXPECT_THAT(with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}}), HasSubstr("'rope_scaling'"));
  EXPECT_THAT(with("attention_bias", true), HasSubstr("'attention_bias'"));
  EXPECT_THAT(with("hidden_act", "gelu"), HasSubstr("must be silu, got \"gelu\""));
  EXPECT_THAT(with("model_type", "llama"), HasSubstr("model_type \"llama\" is not known here"));
  EXPECT_THAT(with("model_type", "gatewright"), HasSubstr("the object 'gatewright'"));
}

TEST(ConfigurationJson, MissingKeysAndWrongTypesAreNamed) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "model_type", "num_experts", "num_experts_per_tok", "intermediate_size"}) {
    Json json = olmoe_config();
    json.erase(key);
    EXPECT_EQ(configuration_refusal(json), fmt::format("config.json: the key '{}' is missing", key));
    for (const Json& wrong : {Json("x"), Json(true), Json(1.5), Json::array({1}), Json::object()}) {
      if (std::string(key) == "model_type" && wrong.is_string()) continue;
      json[key] = wrong;
      EXPECT_THAT(configuration_refusal(json), HasSubstr(key));
    }
  }
}

TEST(ConfigurationJson, SizesOutOfRangeAreNamed) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "num_experts", "num_experts_per_tok", "intermediate_size"}) {
    for (const Json& size : {Json(0), Json(-1), Json(int64_t{1} << 40), Json(~uint64_t{0})}) {
      Json json = olmoe_config();
      json[key] = size;
      EXPECT_THAT(configuration_refusal(json), HasSubstr(key));
    }
  }
}

TEST(ConfigurationJson, SizesThatContradictEachOtherAreNamed) {
  const auto with = [](const std::string& key, const Json& value) {
    Json json = olmoe_config();
    json[key] = value;
    return configuration_refusal(json);
  };
  EXPECT_THAT(with("num_key_value_heads", 5),
              HasSubstr("num_attention_heads = 16 must be a multiple of num_key_value_heads = 5"));
  EXPECT_THAT(with("head_dim", 7), HasSubstr("head_dim must be even, got 7"));
  EXPECT_THAT(with("num_experts_per_tok", 65), AllOf(HasSubstr("65"), HasSubstr("64")));
  EXPECT_THAT(with("rope_theta", 0.0), HasSubstr("rope_theta"));
  EXPECT_THAT(with("sliding_window", -1), HasSubstr("sliding_window"));
}

// --- our own object ---

TEST(ConfigurationJson, UnknownKeysOfOurObjectAreNamedWithTheNearest) {
  const auto with = [](const Json::json_pointer& at, const Json& value) {
    Json json = Json::parse(to_config_json(tiny_spec()).dump());
    json[at] = value;
    return configuration_refusal(json);
  };
  using At = Json::json_pointer;
  EXPECT_EQ(with(At("/gatewright/layer"), 1),
            "config.json: \"layer\" is not a key of 'gatewright', did you mean 'layers'?");
  EXPECT_THAT(with(At("/gatewright/layers/0/num_expert"), 1), HasSubstr("did you mean 'num_experts'?"));
  EXPECT_THAT(with(At("/gatewright/layers/0/router/weight"), 1), HasSubstr("did you mean 'weights'?"));
  EXPECT_THAT(with(At("/gatewright/layers/0/router/selector/topk"), 1), HasSubstr("did you mean 'top_k'?"));
  EXPECT_THAT(with(At("/gatewright/layers/0/router/selector/name"), "top-q"), HasSubstr("selector 'top-q'"));
  EXPECT_THAT(with(At("/gatewright/layers/0/kind"), "sparse"),
              HasSubstr("must be dense or routed, got \"sparse\""));
  EXPECT_THAT(with(At("/gatewright/qk_norm"), "all"), HasSubstr("none, head, projection"));
  EXPECT_THAT(with(At("/gatewright"), 1), HasSubstr("'gatewright'"));
  EXPECT_THAT(with(At("/gatewright/layers"), Json::array()), HasSubstr("must be a list"));
  EXPECT_THAT(with(At("/gatewright/layers/1"), 5), HasSubstr("a layer must be an object"));
  EXPECT_THAT(with(At("/num_hidden_layers"), 1000000), HasSubstr("num_hidden_layers"));
}

TEST(ConfigurationJson, NumbersOfLayersThatDisagreeAreNamed) {
  DecoderSpec spec = tiny_spec(3);
  spec.layers[0] = {.routed = false, .dense_width = 8};
  Json json = Json::parse(to_config_json(spec).dump());
  json["num_hidden_layers"] = 4;
  EXPECT_EQ(configuration_refusal(json),
            "config.json: num_hidden_layers is 4, but 'gatewright.layers' has 3 layers");
}

TEST(ConfigurationJson, HuggingFacesKeysMustAgreeWithOurs) {
  const Json json = Json::parse(to_config_json(preset("tiny")).dump());
  ASSERT_EQ(json["model_type"], "olmoe");
  for (const char* key : {"num_experts", "num_experts_per_tok", "intermediate_size"}) {
    Json changed = json;
    changed[key] = 7;
    EXPECT_EQ(configuration_refusal(changed),
              fmt::format("config.json: '{}' is 7, but 'gatewright.layers' says {}", key, json[key].dump()));
  }
  Json changed = json;
  changed["norm_topk_prob"] = !json["norm_topk_prob"].get<bool>();
  EXPECT_THAT(configuration_refusal(changed), HasSubstr("norm_topk_prob"));
}

TEST(ConfigurationJson, AnythingElseIsRefused) {
  for (const char* text : {"", "[]", "1", "null", "\"x\"", "{", "{}"})
    EXPECT_THAT(error_of([&] { parse_config_json(text, "config.json"); }), StartsWith("config.json"));
  EXPECT_THAT(error_of([&] { parse_config_json(std::string(1 << 20, '['), "config.json"); }),
              HasSubstr("nested"));
}

/// Replaces, removes and adds values at random places: an Error that names the file, or a specification.
TEST(ConfigurationJson, AnyChangeIsRefusedOrRead) {
  const Json whole = Json::parse(to_config_json(tiny_spec()).dump());
  const Json flat = whole.flatten();
  const std::vector<Json> values = {nullptr,
                                    true,
                                    0,
                                    -1,
                                    1e308,
                                    1.5,
                                    "top_p",
                                    "x",
                                    ~uint64_t{0},
                                    Json::array(),
                                    Json::object(),
                                    Json::array({1, "a"})};
  for (const auto& [place, old] : flat.items()) {
    for (const Json& value : values) {
      Json json = whole;
      json[Json::json_pointer(place)] = value;
      try {
        validate(parse_config_json(json.dump(), "config.json"));
      } catch (const Error& e) {
        EXPECT_THAT(e.what(), StartsWith("config.json")) << place << " = " << value;
      }
    }
  }
}

// --- what cannot be built ---

TEST(ParameterCounts, OfTokensWithFewerExpertsAreFewer) {
  DecoderSpec spec = tiny_spec();
  for (FeedForwardSpec& layer : spec.layers) layer.router.selector = make_piece(choice::selectors(), "top_p");
  const auto active = [&](double experts) {
    return static_cast<double>(count_parameters(spec, experts).active);
  };
  EXPECT_DOUBLE_EQ(relative_active_parameters(spec, 1.5), active(1.5) / active(2));
  EXPECT_DOUBLE_EQ(relative_active_parameters(spec, 2), 1);
  EXPECT_LT(relative_active_parameters(spec, 1.5), 1);
}

TEST(Validate, NamesEveryDisagreementAtOnce) {
  DecoderSpec spec = tiny_spec(3);
  spec.vocab_size = 0;
  spec.head_dim = 5;
  spec.num_kv_heads = 3;
  spec.layers[1].router.selector = make_piece(choice::selectors(), "top_k", {{"top_k", int64_t{5}}});
  spec.layers[2] = {.routed = false, .dense_width = 0};
  const std::string message = error_of([&] { validate(spec); });
  for (const char* part : {"vocab_size", "head_dim must be even, got 5", "num_key_value_heads = 3",
                           "layer 1:", "layer 2: a dense layer needs an intermediate_size"})
    EXPECT_THAT(message, HasSubstr(part));
  spec.layers.clear();
  EXPECT_THAT(error_of([&] { validate(spec); }), HasSubstr("the model has no layers"));
}

}  // namespace
}  // namespace gatewright

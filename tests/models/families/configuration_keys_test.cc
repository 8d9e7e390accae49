// What other programs write into the keys of GGUF and of config.json, beyond what we write ourselves.
#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/models/families/gguf_config.h"
#include "gatewright/models/families/hf_config.h"
#include "tests/models/families/random_model.h"

namespace gatewright {
namespace {

using testing::Contains;
using testing::HasSubstr;

/// Tensors of a GGUF file as far as its configuration looks at them.
std::map<std::string, TensorView> tensors_of(const Architecture& a) {
  std::map<std::string, TensorView> tensors;
  for (const char* name : {"token_embd.weight", "output.weight"})
    tensors[name] = {.name = name, .shape = {a.vocab_size, a.hidden_size}, .data = {}};
  return tensors;
}

GgufMetadata keys_of(const Architecture& a) {
  GgufMetadata keys;
  set_architecture(keys, a);
  return keys;
}

TEST(GgufConfig, TakesTheZerosOfLlamaCppsWriterForAbsent) {
  const Architecture mixtral = tiny_architecture("mixtral");
  GgufMetadata keys = keys_of(mixtral);
  for (const char* name : {"expert_feed_forward_length", "expert_group_count", "expert_group_used_count",
                           "rope.scaling.original_context_length"})
    keys.set(std::string("llama.") + name, uint32_t{0});
  keys.set("llama.rope.scaling.type", "linear");
  keys.set("llama.rope.scaling.factor", 0.0F);
  const Architecture read = architecture_from_gguf(keys, tensors_of(mixtral));
  EXPECT_EQ(read.layers, mixtral.layers);
  EXPECT_EQ(read.rotary.factor, 1);
}

TEST(GgufConfig, BelievesWeightsNormWhereLlamaCppReadsIt) {
  const Architecture mixtral = tiny_architecture("mixtral");
  GgufMetadata keys;
  // As llama.cpp writes it: no key of ours.
  for (const auto& [key, value] : std::map<std::string, uint32_t>{{"llama.block_count", 3},
                                                                  {"llama.embedding_length", 32},
                                                                  {"llama.feed_forward_length", 24},
                                                                  {"llama.attention.head_count", 4},
                                                                  {"llama.attention.head_count_kv", 2},
                                                                  {"llama.expert_count", 4},
                                                                  {"llama.expert_used_count", 2}})
    keys.set(key, value);
  keys.set("general.architecture", "llama");
  keys.set("llama.expert_weights_norm", false);
  EXPECT_TRUE(architecture_from_gguf(keys, tensors_of(mixtral)).first_routed()->renormalise);
}

TEST(GgufConfig, FindsTheLlama3RuleOfAListOfDivisors) {
  Architecture llama = tiny_architecture("llama");
  llama.rotary = {.theta = 10000, .scaling = RotaryScaling::kLlama3, .factor = 8, .original_positions = 32};
  std::vector<float> divisors = rotary_tensors(llama).at("rope_freqs.weight");
  auto tensors = tensors_of(llama);
  const auto read = [&] {
    tensors["rope_freqs.weight"] = {.name = "rope_freqs.weight",
                                    .dtype = DataType::kF32,
                                    .shape = {std::ssize(divisors)},
                                    .data = std::as_bytes(std::span(divisors))};
    return architecture_from_gguf(keys_of(llama), tensors);
  };
  EXPECT_EQ(read().rotary.original_positions, 32);
  EXPECT_EQ(read().rotary.factor, 8);
  EXPECT_TRUE(beyond_transformers(read()).empty());
  divisors[1] = 3.5F;  // of no rule
  EXPECT_EQ(read().rotary.divisors, divisors);
  EXPECT_THAT(beyond_transformers(read()), Contains(HasSubstr("no Llama-3 rule")));
}

// llama.cpp has no rule for LongRoPE: sqrt(1 + ln 32 / ln 8) = 1.633.
TEST(GgufConfig, TellsTheMagnitudeOfLongRope) {
  Architecture phi = tiny_architecture("phi3");
  phi.max_positions = 256;
  phi.rotary = {.scaling = RotaryScaling::kLongRope,
                .factor = 32,
                .original_positions = 8,
                .short_factors = {1, 1, 1, 1},
                .long_factors = {1, 2, 3, 4}};
  EXPECT_FALSE(keys_of(phi).contains("phi3.rope.scaling.factor"));
  EXPECT_NEAR(keys_of(phi).number_or("phi3.rope.scaling.attn_factor", 0),
              std::sqrt(1 + std::log(32) / std::log(8)), 1e-6);
}

// With factor 4 the rule gives 0.1 ln 4 + 1 = 1.1386.
TEST(GgufConfig, AFactorOfYarnComesOnTopOfTheRule) {
  Architecture llama = tiny_architecture("llama");
  llama.rotary = {.scaling = RotaryScaling::kYarn, .factor = 4, .original_positions = 64};
  GgufMetadata keys = keys_of(llama);
  EXPECT_FALSE(keys.contains("llama.rope.scaling.attn_factor"));
  keys.set("llama.rope.scaling.attn_factor", 1.0F);
  EXPECT_EQ(architecture_from_gguf(keys, tensors_of(llama)).rotary, llama.rotary);
  keys.set("llama.rope.scaling.attn_factor", 2.0F);
  EXPECT_NEAR(architecture_from_gguf(keys, tensors_of(llama)).rotary.attention_factor, 2.2773, 1e-4);
  llama.rotary.attention_factor = 1.5;
  EXPECT_NEAR(keys_of(llama).number_or("llama.rope.scaling.attn_factor", 0), 1.5 / 1.13863, 1e-4);
}

TEST(GgufConfig, KeepsTheEndsOfYarnsRamp) {
  Architecture llama = tiny_architecture("llama");
  llama.rotary = {.scaling = RotaryScaling::kYarn,
                  .factor = 4,
                  .original_positions = 64,
                  .beta_fast = 16,
                  .beta_slow = 2};
  EXPECT_EQ(architecture_from_gguf(keys_of(llama), tensors_of(llama)).rotary, llama.rotary);
}

TEST(GgufConfig, NamesWhatLlamaCppComputesOtherwise) {
  Architecture a = tiny_architecture("olmoe");
  EXPECT_TRUE(beyond_llama_cpp(a).empty());
  a.clip_qkv = 0.5;
  EXPECT_THAT(beyond_llama_cpp(a), Contains(HasSubstr("clip")));
  a.layers[1].window = 8;
  EXPECT_THAT(beyond_llama_cpp(a), Contains(HasSubstr("sliding window")));
  a.layers[0].routed->renormalise = true;
  EXPECT_THAT(beyond_llama_cpp(a), Contains(HasSubstr("divided by their sum")));
  Architecture lite = tiny_architecture("deepseek_v2");
  lite.latent->query_rank = 0;
  EXPECT_THAT(beyond_llama_cpp(lite), Contains(HasSubstr("26 or 27 layers")));
  lite.layers.resize(27, lite.layers.back());
  lite.layers[0].routed->num_groups = 1;
  EXPECT_THAT(beyond_llama_cpp(lite), testing::Not(Contains(HasSubstr("26 or 27 layers"))));
}

// Transformers 5.24 writes Qwen3-MoE's number of experts as num_local_experts.
TEST(HfConfig, ReadsTheNumberOfExpertsUnderAnyFamilysKey) {
  const Architecture qwen = tiny_architecture("qwen3_moe");
  OrderedJson json = config_from_architecture(qwen, OrderedJson::object());
  json["num_local_experts"] = json["num_experts"];
  json.erase("num_experts");
  const Architecture read = architecture_from_config(Json::parse(json.dump()), "config.json");
  EXPECT_EQ(read.layers, qwen.layers);
  const OrderedJson again = config_from_architecture(read, json);
  EXPECT_EQ(again.at("num_experts"), 4);
  EXPECT_FALSE(again.contains("num_local_experts"));
}

TEST(HfConfig, SaysTheRotaryEmbeddingOnceInTheFormOfTheFile) {
  Architecture gpt = tiny_architecture("gpt_oss");
  gpt.rotary = {.theta = 1000, .scaling = RotaryScaling::kLinear, .factor = 2};
  const OrderedJson older = config_from_architecture(gpt, OrderedJson::object());
  EXPECT_EQ(older.at("rope_theta"), 1000.0);
  EXPECT_EQ(older.at("rope_scaling").at("factor"), 2.0);
  OrderedJson kept = OrderedJson::object();
  kept["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 5.0}};
  const OrderedJson newer = config_from_architecture(gpt, kept);
  EXPECT_EQ(newer.at("rope_parameters").at("factor"), 2.0);
  EXPECT_FALSE(newer.contains("rope_scaling") || newer.contains("rope_theta"));
  gpt.rotary.scaling = RotaryScaling::kNone;
  EXPECT_EQ(config_from_architecture(gpt, kept).at("rope_parameters"),
            OrderedJson({{"rope_type", "default"}, {"rope_theta", 1000.0}}));
}

// GGUF has them in float32.
TEST(HfConfig, RoundsLongRopeFactors) {
  Architecture phi = tiny_architecture("phi3");
  phi.rotary = {.scaling = RotaryScaling::kLongRope,
                .factor = 4,
                .original_positions = 64,
                .short_factors = {1, 1.1, 1.2, 1.3},
                .long_factors = {1, 2, 3, 4}};
  const OrderedJson json = config_from_architecture(phi, OrderedJson::object());
  const Architecture read = architecture_from_config(Json::parse(json.dump()), "config.json");
  EXPECT_EQ(read.rotary.short_factors[1], static_cast<double>(1.1F));
}

}  // namespace
}  // namespace gatewright

#include "gatewright/models/published_model.h"

#include <gmock/gmock.h>

#include "gatewright/evaluate/generate.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/upcycle.h"
#include "gatewright/models/routing_overrides.h"
#include "tests/models/families/random_model.h"
#include "tests/models/families/reference_forward.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

const std::vector<int64_t> kTokens = {1, 5, 9, 13, 2, 60, 7, 7, 33, 21, 4, 40};

DecoderOutput run(Decoder& model, const std::vector<int64_t>& tokens = kTokens) {
  const at::NoGradGuard no_grad;
  return model.forward({.tokens = at::tensor(at::ArrayRef<int64_t>(tokens), at::kLong).unsqueeze(0)});
}

Tensor logits_of(Decoder& model, const std::vector<int64_t>& tokens = kTokens) {
  const at::NoGradGuard no_grad;
  return model.logits(run(model, tokens).hidden[0]);
}

Decoder load(const std::filesystem::path& path, WeightStorage storage = WeightStorage::kMapped) {
  return load_published(ModelFile(path), storage);
}

class PublishedFamily : public testing::TestWithParam<Architecture> {};

/// The family's tiny model, and for some a second one with another rotary scaling or other options.
std::vector<Architecture> all_architectures() {
  std::vector<Architecture> all;
  for (const Family& family : families()) all.push_back(tiny_architecture(family.model_type));
  Architecture llama3 = tiny_architecture("llama");
  llama3.tie_word_embeddings = true;
  llama3.rotary = {
      .theta = 500000, .scaling = RotaryScaling::kLlama3, .factor = 8, .original_positions = 8192};
  all.push_back(llama3);
  Architecture linear = tiny_architecture("llama");
  linear.rotary = {.theta = 10000, .scaling = RotaryScaling::kLinear, .factor = 4};
  all.push_back(linear);
  Architecture long_rope = tiny_architecture("phi3");
  long_rope.rotary = {.theta = 10000,
                      .scaling = RotaryScaling::kLongRope,
                      .factor = 32,
                      .original_positions = 8,
                      .short_factors = {1, 1, 1, 1},
                      .long_factors = {1, 1.5, 3, 9}};
  all.push_back(long_rope);
  Architecture mistral = tiny_architecture("mistral");
  for (ArchitectureLayer& layer : mistral.layers) layer.window = 4;
  all.push_back(mistral);
  Architecture clipped = tiny_architecture("olmoe");
  clipped.clip_qkv = 0.5;
  all.push_back(clipped);
  Architecture uneven = tiny_architecture("mixtral");
  uneven.layers[0] = {.dense_width = 40};
  uneven.layers[1].routed->num_experts = 6;
  uneven.layers[2].routed->top_k = 3;
  all.push_back(uneven);
  return all;
}

TEST_P(PublishedFamily, EqualsAnIndependentForwardPassFromBothFormats) {
  const RandomModel model(GetParam());
  const TemporaryFolder folder;
  convert_to_gguf(model, folder / "model.gguf");
  convert_to_folder(model, folder / "hf");
  ReferenceForward reference(model);
  const std::vector<Row> expected = reference.run(kTokens);
  for (const char* name : {"model.gguf", "hf"}) {
    Decoder decoder = load(folder / name);
    const Tensor logits = logits_of(decoder).contiguous();
    double worst = 0;
    for (size_t t = 0; t < kTokens.size(); ++t)
      for (size_t v = 0; v < expected[t].size(); ++v)
        worst = std::max(worst,
                         std::abs(expected[t][v] -
                                  static_cast<double>(logits.data_ptr<float>()[t * expected[t].size() + v])));
    EXPECT_LT(worst, 1e-4) << name;
    const DecoderOutput output = run(decoder);
    ASSERT_EQ(output.routing.size(), reference.routing.size());
    for (size_t l = 0; l < output.routing.size(); ++l) {
      const LayerTrace trace = layer_trace(output.routing[l]);
      for (size_t t = 0; t < kTokens.size(); ++t) {
        if (reference.routing[l].margin[t] < 1e-5) continue;
        const std::vector<int64_t> mine(trace.expert.begin() + trace.row_begin[t],
                                        trace.expert.begin() + trace.row_begin[t + 1]);
        EXPECT_EQ(mine, reference.routing[l].experts[t]) << name << " layer " << l << " token " << t;
      }
    }
  }
}

TEST_P(PublishedFamily, KeepsItsBitsOnTheWayToTheOtherFormatAndBack) {
  const RandomModel model(GetParam());
  const TemporaryFolder folder;
  convert_to_folder(model, folder / "hf");
  convert_to_gguf(ModelFile(folder / "hf"), folder / "there.gguf");
  convert_to_folder(ModelFile(folder / "there.gguf"), folder / "back");
  EXPECT_EQ(read_file(folder / "hf/model.safetensors"), read_file(folder / "back/model.safetensors"));
  Decoder first = load(folder / "hf"), there = load(folder / "there.gguf"), back = load(folder / "back");
  EXPECT_TRUE(at::equal(logits_of(first), logits_of(there)));
  EXPECT_TRUE(at::equal(logits_of(first), logits_of(back)));
}

/// Token by token, each against the text up to it in one pass.
void compare_growing_text(Decoder& decoder, CachedDecoder& cached, size_t longest) {
  for (size_t t = 1; t <= longest; ++t) {
    const std::vector<int32_t> text(kTokens.begin(), kTokens.begin() + static_cast<std::ptrdiff_t>(t));
    const std::span<const float> logits = cached.logits_after(text);
    const Tensor whole =
        logits_of(decoder, {kTokens.begin(), kTokens.begin() + static_cast<std::ptrdiff_t>(t)})[-1];
    double worst = 0;
    for (size_t v = 0; v < logits.size(); ++v)
      worst = std::max(
          worst, std::abs(static_cast<double>(logits[v]) - whole[static_cast<int64_t>(v)].item<double>()));
    EXPECT_LT(worst, 1e-4) << t;
  }
}

TEST(LongRope, ATextThatOutgrowsTheOriginalContextIsTurnedAsAWhole) {
  const auto all = all_architectures();
  const auto it = std::ranges::find_if(
      all, [](const Architecture& a) { return a.rotary.scaling == RotaryScaling::kLongRope; });
  ASSERT_NE(it, all.end());
  ASSERT_LT(it->rotary.original_positions, std::ssize(kTokens)) << "the text crosses the border";
  const TemporaryFolder folder;
  convert_to_gguf(RandomModel(*it), folder / "model.gguf");
  Decoder decoder = load(folder / "model.gguf"), other = load(folder / "model.gguf");
  CachedDecoder cached(decoder);
  compare_growing_text(other, cached, kTokens.size());
  compare_growing_text(other, cached, kTokens.size());  // and back to a short text
  std::vector<KeyValueCache> cache(static_cast<size_t>(decoder.spec().num_layers()));
  const at::NoGradGuard no_grad;
  const auto feed = [&](int64_t tokens) {
    decoder.forward({.tokens = at::ones({1, tokens}, at::kLong)}, {.cache = &cache});
  };
  feed(8);
  EXPECT_THAT(error_of([&] { feed(1); }), HasSubstr("outgrows the original context of 8 tokens"));
}

TEST_P(PublishedFamily, TokenByTokenEqualsOnePass) {
  const TemporaryFolder folder;
  convert_to_gguf(RandomModel(GetParam()), folder / "model.gguf");
  Decoder decoder = load(folder / "model.gguf");
  const Tensor whole = logits_of(decoder);
  std::vector<KeyValueCache> cache(static_cast<size_t>(decoder.spec().num_layers()));
  const at::NoGradGuard no_grad;
  for (size_t t = 0; t < kTokens.size(); ++t) {
    const Tensor token = at::full({1, 1}, kTokens[t], at::kLong);
    const Tensor one = decoder.logits(
        decoder.forward({.tokens = token}, {.cache = &cache, .text_length = std::ssize(kTokens)}).hidden[0]);
    EXPECT_LT((one[0] - whole[static_cast<int64_t>(t)]).abs().max().item<double>(), 1e-4) << t;
  }
}

TEST_P(PublishedFamily, CountsTheParametersOfItsFile) {
  const RandomModel model(GetParam());
  int64_t expected = 0;
  for (const ModelTensor& t : model.tensors()) expected += t.rows() * t.columns();
  const DecoderSpec spec = decoder_spec(GetParam());
  // The bias on the choice is a state and not learned.
  int64_t states = 0;
  for (const ModelTensor& t : model.tensors()) states += t.name.ends_with("correction_bias") ? t.rows() : 0;
  EXPECT_EQ(count_parameters(spec).total, expected - states);
}

INSTANTIATE_TEST_SUITE_P(Families, PublishedFamily, testing::ValuesIn(all_architectures()),
                         [](const auto& info) {
                           return fmt::format("{}_{}", info.param.family, info.index);
                         });

TEST(PublishedModel, PackedWeightsGiveWhatTheirValuesGive) {
  for (const char* family : {"llama", "olmoe", "qwen2_moe", "gpt_oss"}) {
    for (const DataType type : {DataType::kF16, DataType::kBF16, DataType::kQ8_0, DataType::kQ4_0}) {
      const RandomModel model(architecture_of_blocks(family));
      const TemporaryFolder folder;
      convert_to_gguf(PackedModel(model, type), folder / "packed.gguf");
      convert_to_folder(ModelFile(folder / "packed.gguf"), folder / "plain", {.type = DataType::kF32});
      Decoder packed = load(folder / "packed.gguf"), plain = load(folder / "plain");
      int64_t count = 0;
      for (const NamedTensor& p : packed.parameters()) count += is_packed(p.tensor);
      EXPECT_GT(count, 10) << family;
      EXPECT_EQ(packed.num_parameters(), plain.num_parameters());
      EXPECT_LT((logits_of(packed) - logits_of(plain)).abs().max().item<double>(), 1e-4)
          << family << " " << data_type_name(type);
    }
  }
}

TEST(PublishedModel, GradientsPassThroughPackedWeightsToTheRouters) {
  const RandomModel model(architecture_of_blocks("mixtral"));
  const TemporaryFolder folder;
  convert_to_gguf(PackedModel(model, DataType::kQ8_0), folder / "packed.gguf");
  convert_to_folder(ModelFile(folder / "packed.gguf"), folder / "plain", {.type = DataType::kF32});
  Decoder packed = load(folder / "packed.gguf"), plain = load(folder / "plain", WeightStorage::kTrainable);
  const auto router_gradient = [](Decoder& d) {
    const Tensor tokens = at::tensor(at::ArrayRef<int64_t>(kTokens), at::kLong).unsqueeze(0);
    d.logits(d.forward({.tokens = tokens}).hidden).square().mean().backward();
    for (const NamedTensor& p : d.parameters()) {
      if (p.name == "model.layers.0.mlp.gate.weight") return p.tensor.grad();
    }
    return Tensor();
  };
  const Tensor a = router_gradient(packed), b = router_gradient(plain);
  ASSERT_TRUE(a.defined() && b.defined());
  EXPECT_GT(b.abs().max().item<double>(), 0);
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-4 * b.abs().max().item<double>());
}

TEST(PublishedModel, DisagreementsAreNamed) {
  const TemporaryFolder folder;
  convert_to_folder(RandomModel(tiny_architecture("olmoe")), folder / "hf");
  OrderedJson config = OrderedJson::parse(read_file(folder / "hf/config.json"));
  config["num_hidden_layers"] = 5;
  config["num_experts"] = 6;
  write_file(folder / "hf/config.json", config.dump());
  const std::string message = error_of([&] { ModelFile(folder / "hf"); });
  EXPECT_THAT(message, HasSubstr("3 layers, the configuration says 5"));
  EXPECT_THAT(message, HasSubstr("4 experts a layer, the configuration says 6"));
  EXPECT_THAT(message, HasSubstr("model.layers.0.mlp.experts.4.gate_proj.weight is missing"));
}

TEST(Upcycle, CopiesGiveTheDenseModelWhateverTheRouterSays) {
  const RandomModel dense(tiny_architecture("llama"));
  const TemporaryFolder folder;
  convert_to_gguf(dense, folder / "dense.gguf");
  const ModelFile file(folder / "dense.gguf");
  convert_to_gguf(*upcycle(file, {.num_experts = 4, .top_k = 2}), folder / "mixture.gguf");
  Decoder before = load(folder / "dense.gguf"), after = load(folder / "mixture.gguf");
  EXPECT_EQ(run(after).routing.size(), 3u);
  EXPECT_LT((logits_of(before) - logits_of(after)).abs().max().item<double>(), 1e-4);
}

TEST(Upcycle, DividedNeuronsGiveTheDenseModelWhenAllExpertsAreChosen) {
  const RandomModel dense(tiny_architecture("llama"));
  const TemporaryFolder folder;
  convert_to_gguf(dense, folder / "dense.gguf");
  const ModelFile file(folder / "dense.gguf");
  Decoder before = load(folder / "dense.gguf");
  for (const UpcycleSplit split :
       {UpcycleSplit::kContiguous, UpcycleSplit::kRandom, UpcycleSplit::kClustered}) {
    const auto mixture = upcycle(file, {.num_experts = 4, .top_k = 4, .split = split, .router_init = 0});
    convert_to_folder(*mixture, folder / "mixture");
    Decoder after = load(folder / "mixture");
    EXPECT_EQ(after.spec().family, "mixtral");
    EXPECT_LT((logits_of(before) - logits_of(after)).abs().max().item<double>(), 1e-4);
  }
}

TEST(Upcycle, SomeLayersOnlyAndNoiseBetweenCopies) {
  const RandomModel dense(tiny_architecture("llama"));
  const TemporaryFolder folder;
  convert_to_gguf(dense, folder / "dense.gguf");
  const ModelFile file(folder / "dense.gguf");
  const auto mixture = upcycle(file, {.num_experts = 4, .top_k = 2, .layers = {1}, .noise = 0.1});
  const ConvertReport report = convert_to_gguf(*mixture, folder / "mixture.gguf");
  EXPECT_THAT(testing::PrintToString(report.notes), HasSubstr("llama.cpp can't load"));
  Decoder after = load(folder / "mixture.gguf");
  ASSERT_EQ(run(after).routing.size(), 1u);
  EXPECT_EQ(run(after).routing[0].layer, 1);
  const ModelFile written(folder / "mixture.gguf");
  const ModelTensor& up = written.tensor("model.layers.1.mlp.experts.{}.up_proj.weight");
  std::vector<float> first(32), second(32);
  written.read_values(up, 0, 1, first);
  written.read_values(up, 48, 1, second);
  double squares = 0;
  for (size_t i = 0; i < 32; ++i)
    squares += std::pow(static_cast<double>(first[i]) - static_cast<double>(second[i]), 2);
  // The difference of two draws, each a tenth of the weights' own size (1.6 / sqrt(32)).
  EXPECT_NEAR(std::sqrt(squares / 32), std::sqrt(2) * 0.1 * 0.283, 0.015);
}

TEST(Upcycle, WhatCannotBeIsRefused) {
  const RandomModel llama(tiny_architecture("llama")), olmoe(tiny_architecture("olmoe"));
  EXPECT_THAT(error_of([&] { upcycle(olmoe, {}); }), HasSubstr("olmoe"));
  EXPECT_THAT(error_of([&] { upcycle(llama, {.num_experts = 7, .split = UpcycleSplit::kRandom}); }),
              HasSubstr("48 neurons"));
  EXPECT_THAT(error_of([&] { upcycle(llama, {.num_experts = 2, .top_k = 3}); }), HasSubstr("1 to 2"));
  EXPECT_THAT(error_of([&] { upcycle(llama, {.layers = {3}}); }), HasSubstr("layers 0 to 2"));
}

TEST(Upcycle, ClustersHaveAsManyNeuronsAndPutNearOnesTogether) {
  // Eight neurons that point along four axes, two each, in mixed order.
  const std::vector<int> axis = {2, 0, 3, 1, 0, 2, 1, 3};
  std::vector<float> gate(8 * 4);
  for (size_t i = 0; i < 8; ++i)
    gate[i * 4 + static_cast<size_t>(axis[i])] = 1.0F + 0.1F * static_cast<float>(i);
  int best = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const auto neurons = cluster_neurons(gate, 4, 4, seed);
    int together = 0;
    for (const auto& expert : neurons) {
      ASSERT_EQ(expert.size(), 2u);
      together += axis[static_cast<size_t>(expert[0])] == axis[static_cast<size_t>(expert[1])];
    }
    best = std::max(best, together);
  }
  EXPECT_EQ(best, 4);
}

DecoderSpec with(const RoutingOverrides& overrides) {
  DecoderSpec spec = decoder_spec(tiny_architecture("mixtral"));
  apply(overrides, spec);
  return spec;
}

TEST(RoutingOverrides, ChangeTheLayersTheyName) {
  const DecoderSpec k = with({.experts_per_token = {"1", "1-2:3"}});
  EXPECT_EQ(k.layers[0].router.selector.values.integer("top_k"), 1);
  EXPECT_EQ(k.layers[2].router.selector.values.integer("top_k"), 3);
  const DecoderSpec p = with({.selectors = {"0:top_p:0.7"}});
  EXPECT_EQ(p.layers[0].router.selector.name, "top_p");
  EXPECT_EQ(p.layers[0].router.selector.values.number("top_p"), 0.7);
  EXPECT_EQ(p.layers[1].router.selector.name, "top_k");
  EXPECT_EQ(with({.omit = {"0-1:0,3"}}).layers[1].router.decorators.size(), 1u);
}

TEST(RoutingOverrides, ABoundThatIsGivenIsNotMovedByTheBudgetOfTheTraining) {
  DecoderSpec spec = decoder_spec(tiny_architecture("mixtral"));
  for (FeedForwardSpec& layer : spec.layers) {
    layer.router.selector = make_piece(choice::selectors(), "top_p");
    layer.router.balance = {make_piece(balance_terms(), "expert_budget", {{"experts_per_token", 2.0}})};
  }
  apply({.selectors = {"0:top_p:0.7", "1:top_k:1"}}, spec);
  const auto budget = [&](size_t l) {
    return spec.layers[l].router.balance.front().values.number("experts_per_token");
  };
  EXPECT_EQ(budget(0), 0);
  EXPECT_EQ(budget(1), 0);
  EXPECT_EQ(budget(2), 2);
}

TEST(RoutingOverrides, WhatCannotBeIsAnsweredWithWhatCan) {
  const auto refusal = [](const RoutingOverrides& o) { return error_of([&] { with(o); }); };
  EXPECT_THAT(refusal({.experts_per_token = {"9"}}), HasSubstr("1 to 4 experts"));
  EXPECT_THAT(refusal({.experts_per_token = {"7:1"}}), HasSubstr("layers 0 to 2"));
  EXPECT_THAT(refusal({.selectors = {"top_p:1.7"}}), HasSubstr("1.7"));
  EXPECT_THAT(refusal({.selectors = {"top_q:1"}}), HasSubstr("top_"));
  EXPECT_THAT(refusal({.omit = {"0:9"}}), HasSubstr("experts 0 to 3"));
  EXPECT_THAT(refusal({.omit = {"0:0,1,2,3"}}), HasSubstr("one must stay"));
  EXPECT_THAT(refusal({.omit = {"x"}}), HasSubstr("LAYER:IDS"));
  DecoderSpec dense = decoder_spec(tiny_architecture("llama"));
  EXPECT_THAT(error_of([&] { apply({.experts_per_token = {"1"}}, dense); }), HasSubstr("no experts"));
}

}  // namespace
}  // namespace gatewright

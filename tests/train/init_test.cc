// Trainings that go on with a model's file.
#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors.h"
#include "gatewright/formats/weight_diff.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/model_file.h"
#include "gatewright/models/families/upcycle.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "gatewright/train/file_start.h"
#include "tests/models/families/random_model.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

namespace fs = std::filesystem;

const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = [] {
    Recorder events;
    return train_tokenizer(small_corpus(), 300, events);
  }();
  return tokenizer;
}

/// A tiny model of the family that small texts can be trained on.
RandomModel small_model(const std::string& family) {
  GgufMetadata keys;
  write_gguf_vocabulary(gguf_vocabulary(small_tokenizer().definition()), keys);
  Architecture architecture = architecture_of_blocks(family);
  architecture.vocab_size = 304;
  return RandomModel(architecture, keys);
}

/// As GGUF with packed matrices.
fs::path write_packed(const TemporaryFolder& folder, const std::string& family,
                      const std::string& name = "packed.gguf") {
  const RandomModel model = small_model(family);
  convert_to_gguf(PackedModel(model, DataType::kQ8_0), folder / name);
  return folder / name;
}

Recipe init_recipe(const fs::path& init, const std::vector<std::string>& settings = {}) {
  return make_recipe(fmt::format(R"(
seed = 5
[train]
init = "{}"
steps = 6
batch_size = 4
sequence_length = 16
learning_rate = 0.02
log_every = 1
)",
                                 init.string()),
                     "init.toml", settings);
}

const std::vector<std::string> kRouters = {"train.parameters=routers"};

Batch one_batch() {
  RandomStream random(3, "batch");
  std::vector<int64_t> tokens(4 * 17);
  for (int64_t& t : tokens) t = static_cast<int64_t>(random.below(300));
  const Tensor all = at::tensor(at::ArrayRef<int64_t>(tokens), at::kLong).view({4, 17});
  return {.tokens = all.narrow(1, 0, 16).contiguous(), .targets = all.narrow(1, 1, 16).contiguous()};
}

Tensor logits_of(Decoder& model) {
  const at::NoGradGuard no_grad;
  return model.logits(model.forward(one_batch()).hidden);
}

/// The mean loss before each of some steps on the same batch.
std::vector<double> losses_on_one_batch(Decoder& model, const TrainOptions& options, int steps = 5) {
  ModelOptimizer optimizer(model, options);
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) {
    const StepResult result = optimizer.accumulate(std::vector<Batch>{one_batch()});
    optimizer.update(result);
    losses.push_back(result.loss);
  }
  return losses;
}

bool is_router(const std::string& name) {
  return name.find("ffn_gate_inp.") != std::string::npos || name.find("gate.weight") != std::string::npos ||
         name.find("router.") != std::string::npos;
}

class InitOfFamily : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Routed, InitOfFamily,
                         testing::Values("olmoe", "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2",
                                         "deepseek_v3", "gpt_oss"));

TEST_P(InitOfFamily, TrainsItsRoutersAloneAndKeepsEveryOtherByte) {
  const TemporaryFolder folder;
  const fs::path gguf = write_packed(folder, GetParam());
  convert_to_folder(small_model(GetParam()), folder / "hf");
  for (const fs::path& source : {gguf, folder / "hf"}) {
    const Recipe recipe = init_recipe(source, kRouters);
    const FileStart start(recipe, source);
    Decoder model = start.make(300);
    for (const NamedTensor& p : model.parameters())
      EXPECT_EQ(p.trainable, p.router && p.tensor.requires_grad());
    const std::vector<double> losses = losses_on_one_batch(model, recipe.train);
    EXPECT_LT(losses.back(), losses.front()) << source;
    const Tensor trained = logits_of(model);
    start.save_finished(folder / "out", model, "");
    const fs::path result = source == gguf ? folder / "out/model.gguf" : folder / "out";
    Decoder again = load_decoder(result);
    EXPECT_TRUE(at::equal(logits_of(again), trained)) << source;
    EXPECT_EQ(Tokenizer::load(result).fingerprint(), Tokenizer::load(source).fingerprint());
    const WeightDiff diff = diff_weights(source, result);
    EXPECT_THAT(diff.keys, IsEmpty());
    EXPECT_FALSE(diff.tensors.empty());
    for (const TensorDifference& t : diff.tensors) EXPECT_TRUE(is_router(t.name)) << t.name;
    fs::remove_all(folder / "out");
  }
}

TEST_P(InitOfFamily, TrainsAllOfItIntoAFolderOfTheFamily) {
  const TemporaryFolder folder;
  const fs::path gguf = write_packed(folder, GetParam());
  convert_to_folder(small_model(GetParam()), folder / "hf");
  for (const fs::path& source : {gguf, folder / "hf"}) {
    const Recipe recipe = init_recipe(source);
    const FileStart start(recipe, source);
    Decoder model = start.make(300);
    const std::vector<double> losses = losses_on_one_batch(model, recipe.train);
    EXPECT_LT(losses.back(), losses.front()) << source;
    start.save_finished(folder / "out", model, "");
    const ModelFile result(folder / "out");
    EXPECT_EQ(result.architecture().family, GetParam());
    Decoder again = load_decoder(folder / "out");
    EXPECT_TRUE(at::equal(logits_of(again), logits_of(model))) << source;
    fs::remove_all(folder / "out");
  }
}

TEST_P(InitOfFamily, HasTheGradientsOfItsRouters) {
  const TemporaryFolder folder;
  const fs::path source = write_packed(folder, GetParam());
  // With all experts chosen the loss has no steps.
  const Recipe recipe = init_recipe(source, {kRouters[0], "routing.selector=all"});
  Decoder model = FileStart(recipe, source).make(300);
  ModelOptimizer optimizer(model, recipe.train);
  optimizer.accumulate(std::vector<Batch>{one_batch()});
  const auto loss = [&] {
    const at::NoGradGuard no_grad;
    const Batch batch = one_batch();
    const Tensor logits = model.logits(model.forward(batch).hidden).to(at::kDouble);
    return at::cross_entropy_loss(logits.reshape({-1, 304}), batch.targets.reshape({-1})).item<double>();
  };
  constexpr double kStep = 2e-3;
  int compared = 0;
  for (const NamedTensor& p : model.parameters()) {
    if (!p.trainable || p.tensor.dim() != 2) continue;
    // Along the gradient the loss changes by its length.
    const Tensor direction = p.tensor.grad() / p.tensor.grad().norm();
    const auto moved = [&](double by) {
      const at::NoGradGuard no_grad;
      const Tensor before = p.tensor.clone();
      p.tensor.add_(direction, by);
      const double value = loss();
      p.tensor.copy_(before);
      return value;
    };
    const double slope = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    const double length = p.tensor.grad().norm().item<double>();
    EXPECT_NEAR(slope, length, 0.05 * length + 1e-4) << p.name;
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

// --- whole trainings ---

TEST(Init, GoesOnBitForBitWithTheTrainedPartOfTheWeightsInTheCheckpoint) {
  const TemporaryFolder folder;
  const fs::path source = write_packed(folder, "deepseek_v3");
  convert_to_folder(small_model("mixtral"), folder / "hf");
  const std::vector<std::string> noisy = {"routing.jitter.epsilon=0.1", "train.checkpoint_every=2",
                                          "balance.switch.weight=0.01"};
  for (const std::string what : {"routers", "all"}) {
    std::vector<std::string> settings = noisy;
    settings.push_back("train.parameters=" + what);
    const Recipe recipe = init_recipe(what == "all" ? folder / "hf" : source, settings);
    const std::string file = what == "all" ? "model.safetensors" : "model.gguf";
    train(folder / "straight", recipe);
    train_until_cut(folder / "cut", recipe, 5);
    if (what == "routers") {
      const SafetensorsFile kept(folder / "cut/checkpoint/trained.safetensors");
      // Two routed layers, each a router and its bias on the choice.
      EXPECT_THAT(kept.tensors(), SizeIs(4));
      EXPECT_FALSE(fs::exists(folder / "cut/checkpoint/model.safetensors"));
    }
    train(folder / "cut", recipe);
    EXPECT_EQ(read_file(folder / "straight" / file), read_file(folder / "cut" / file)) << what;
    EXPECT_FALSE(fs::exists(folder / "cut/checkpoint"));
    // Finished: nothing more to do.
    const auto written = fs::last_write_time(folder / "cut" / file);
    EXPECT_EQ(train(folder / "cut", recipe).kind, TrainOutcome::Kind::kAlreadyFinished);
    EXPECT_EQ(fs::last_write_time(folder / "cut" / file), written);
    fs::remove_all(folder / "straight"), fs::remove_all(folder / "cut");
  }
}

TEST(Init, KnowsTheSameModelWhereverItLiesAndRefusesAnother) {
  const TemporaryFolder folder;
  const fs::path source = write_packed(folder, "mixtral");
  train_until_cut(folder / "out", init_recipe(source, {"train.checkpoint_every=2", kRouters[0]}), 5);
  fs::copy(source, folder / "elsewhere.gguf");
  // Its router differs in one value.
  const ModelFile file(source);
  const ModelTensor& router = file.tensor("model.layers.1.mlp.gate.weight");
  std::vector<float> values(static_cast<size_t>(router.rows() * router.columns()));
  file.read_values(router, 0, router.rows(), values);
  values[17] += 1;
  rewrite(file, {{router.name, values}}, file.architecture(), folder / "other.gguf");
  EXPECT_THAT(error_of([&] { train(folder / "out", init_recipe(folder / "other.gguf", kRouters)); }),
              HasSubstr("the model that it begins with is not the same"));
  EXPECT_EQ(train(folder / "out", init_recipe(folder / "elsewhere.gguf", kRouters)).steps, 6);
  EXPECT_TRUE(fs::exists(folder / "out/model.gguf"));
}

TEST(Init, TrainsAMixtureMadeOfADenseModel) {
  const TemporaryFolder folder;
  const fs::path dense = write_packed(folder, "llama");
  convert_to_gguf(*upcycle(ModelFile(dense), {.num_experts = 2, .top_k = 1, .split = UpcycleSplit::kRandom}),
                  folder / "mixture.gguf");
  EXPECT_EQ(error_of([&] { train(folder / "out", init_recipe(dense, kRouters)); }),
            dense.string() +
                " has no routed layer, so train.parameters = \"routers\" leaves nothing to train; "
                "`gatewright upcycle` "
                "makes a mixture of a dense model");
  EXPECT_THAT(error_of([&] { train(folder / "out", init_recipe(dense, {"routing.top_k=1"})); }),
              HasSubstr("has no routed layer"));
  const Recipe recipe = init_recipe(folder / "mixture.gguf", {kRouters[0], "balance.switch.weight=0.1"});
  EXPECT_EQ(train(folder / "out", recipe).steps, 6);
  EXPECT_FALSE(diff_weights(folder / "mixture.gguf", folder / "out/model.gguf").tensors.empty());
}

TEST(Init, WritesAnotherNumberOfExpertsATokenAndTellsWhatTheFileCannotSay) {
  const TemporaryFolder folder;
  const fs::path source = write_packed(folder, "mixtral");
  train(folder / "one", init_recipe(source, {kRouters[0], "routing.top_k=1"}));
  EXPECT_EQ(ModelFile(folder / "one/model.gguf").architecture().first_routed()->top_k, 1);
  Recorder events;
  const Recipe top_p = init_recipe(source, {"routing.selector=top_p", "routing.top_p=0.6"});
  train_model({.recipe = top_p, .out = folder / "some"}, small_corpus(), events);
  EXPECT_THAT(events.notes, Contains(HasSubstr("have no place for the selector top_p")));
  EXPECT_THAT(events.notes, Contains(HasSubstr("were expanded to float32")));
  EXPECT_EQ(ModelFile(folder / "some").architecture().first_routed()->top_k, 2);
  EXPECT_THAT(error_of([&] { train(folder / "out", init_recipe(source, {"routing.top_k=5"})); }),
              HasSubstr("top_k = 5 of 4 experts"));
  EXPECT_THAT(
      error_of([&] { train(folder / "out", init_recipe(source, {"balance.loss_free_bias.rate=0.1"})); }),
      HasSubstr("a file of the family mixtral has no place for "
                "model.layers.0.mlp.gate.e_score_correction_bias"));
}

TEST(Init, NeverThrowsAwayTheModelItBeginsWith) {
  const TemporaryFolder folder;
  const fs::path source = write_packed(folder, "mixtral");
  Recorder events;
  const Recipe recipe = init_recipe(source, kRouters);
  EXPECT_THAT(error_of([&] {
                train_model({.recipe = recipe, .out = folder.path(), .restart = true}, small_corpus(),
                            events);
              }),
              HasSubstr("holds the model that the training begins with"));
  EXPECT_TRUE(fs::exists(source));
}

TEST(Init, GoesOnWithAModelFolderOfOurs) {
  const TemporaryFolder folder;
  train(folder / "first", small_recipe());
  const Recipe recipe = init_recipe(folder / "first", {kRouters[0], "balance.switch.weight=0.01"});
  train(folder / "straight", recipe);
  Decoder before = load_decoder(folder / "first"), after = load_decoder(folder / "straight");
  const ParameterList changed = after.parameters();
  for (size_t i = 0; i < changed.size(); ++i)
    EXPECT_EQ(at::equal(changed[i].tensor, before.parameters()[i].tensor), !changed[i].router)
        << changed[i].name;
  EXPECT_EQ(read_file(folder / "first/tokenizer.json"), read_file(folder / "straight/tokenizer.json"));
}

// --- recipes ---

TEST(InitRecipe, RefusesEachKeyThatTheFileDecides) {
  const auto problem_of = [](const std::string& more) {
    return error_of([&] { make_recipe("[train]\ninit = \"x.gguf\"\n" + more, "my.toml"); });
  };
  EXPECT_EQ(problem_of("[model]\nhidden_size = 64\n"),
            "my.toml:4: model.hidden_size is decided by the model that train.init names; leave it out");
  EXPECT_EQ(problem_of("[model]\n"),
            "my.toml:3: [model] is decided by the model that train.init names; leave it out");
  EXPECT_THAT(problem_of("[experts]\nnum_experts = 8\nwidth = 4\n[experts.shared]\nwidth = 3\n"),
              AllOf(HasSubstr("my.toml:4: experts.num_experts is"), HasSubstr("my.toml:5: experts.width is"),
                    HasSubstr("my.toml:7: experts.shared.width is")));
  EXPECT_THAT(
      problem_of("[routing]\nscorer = \"linear\"\nscale = 2.0\n"),
      AllOf(HasSubstr("my.toml:4: routing.scorer is decided"), HasSubstr("my.toml:5: routing.scale is")));
  EXPECT_THAT(problem_of("[[layers]]\nat = [0]\n"), HasSubstr("my.toml:3: [[layers]] is decided"));
  EXPECT_THAT(problem_of("[data]\ntokenizer = \"t.json\"\n"),
              HasSubstr("my.toml:4: data.tokenizer is decided"));
  EXPECT_THAT(problem_of("base = \"dense\"\n"),
              HasSubstr("my.toml:3: train.base is for the model of a recipe"));
  EXPECT_THAT(problem_of("[routing]\ntop_p = 0.5\n"), HasSubstr("my.toml:4: routing.top_p"));
  EXPECT_THAT(problem_of("[routing]\ntopk = 1\n"),
              HasSubstr("my.toml:4: routing.topk is not a key of [routing]"));
  EXPECT_THAT(problem_of("[balance.swich]\n"), HasSubstr("did you mean 'switch'"));
  EXPECT_THAT(problem_of("parameters = \"router\"\n"), HasSubstr("did you mean 'routers'"));
  const Recipe sound = make_recipe(
      "[train]\ninit = \"x.gguf\"\n[routing]\nselector = \"top_p\"\ntop_p = 0.6\n[balance.switch]\nweight = "
      "0.1\n",
      "my.toml");
  EXPECT_EQ(sound.routing.selector->values.number("top_p"), 0.6);
  EXPECT_THAT(sound.routing.balance, SizeIs(1));
}

// --- other ways to train a part ---

TEST(Freeze, KeepsParametersFromTheOptimiser) {
  Setting setting({"train.steps=2"});
  setting.model.freeze({"*.self_attn.*", "model.embed_tokens.weight"});
  Trainer trainer(setting.model, setting.stream, setting.recipe.train);
  std::map<std::string, Tensor> before;
  for (const NamedTensor& p : setting.parameters()) before[p.name] = p.tensor.detach().clone();
  for (int i = 0; i < 2; ++i) trainer.step();
  int frozen = 0;
  for (const NamedTensor& p : setting.parameters()) {
    EXPECT_EQ(at::equal(p.tensor, before[p.name]), !p.trainable) << p.name;
    frozen += !p.trainable;
  }
  EXPECT_EQ(frozen, 4 + 2 + 1);  // projections, norms of queries and keys, embedding
  EXPECT_EQ(error_of([&] { setting.model.freeze({"*.gru.*"}); }),
            "there is no parameter '*.gru.*' to freeze; * stands for any text, as in model.embed_tokens.*");
  EXPECT_THAT(error_of([&] { train("unused", small_recipe({"train.freeze=[\"*\"]"})); }),
              HasSubstr("train.freeze leaves no parameter to train"));
  fs::remove_all("unused");
}

TEST(Base, GivesTheWeightsOfADenseModelToTheMapsUnderItsAdapters) {
  const TemporaryFolder folder;
  const Recipe dense = make_recipe(R"(
[model]
vocab_size = 300
hidden_size = 32
num_layers = 1
num_heads = 4
dense_width = 16
[train]
steps = 2
batch_size = 4
sequence_length = 16
)",
                                   "dense");
  train(folder / "dense", dense);
  const std::string base = "train.base=" + (folder / "dense").string();
  train(folder / "tuned",
        small_recipe(
            {"experts.bank=lora", "experts.rank=2", "routing.scorer=mixture", "train.steps=2", base,
             R"(train.freeze=["model.embed_tokens.*", "lm_head.*", "*norm.weight", "*.self_attn.*"])"}));
  const Decoder before = load_decoder(folder / "dense"), after = load_decoder(folder / "tuned");
  std::map<std::string, Tensor> of_tuned;
  for (const NamedTensor& p : after.parameters()) of_tuned[p.name] = p.tensor;
  for (const NamedTensor& p : before.parameters())
    EXPECT_TRUE(at::equal(p.tensor, of_tuned.at(p.name))) << p.name << " is that of the dense model";
  const Tensor& adapter = of_tuned.at("model.layers.0.mlp.moe_lora.experts.{}.up_proj.lora_B.weight");
  EXPECT_GT(adapter.abs().sum().item<double>(), 0);
  train(folder / "attention",
        small_recipe({"experts.bank=lora", R"(experts.adapted=["q","k","v","o"])", "train.steps=2", base,
                      R"(train.freeze=["model.embed_tokens.*", "lm_head.*", "*norm.weight"])"}));
  of_tuned.clear();
  for (const NamedTensor& p : load_decoder(folder / "attention").parameters()) of_tuned[p.name] = p.tensor;
  for (const NamedTensor& p : before.parameters())
    EXPECT_TRUE(at::equal(p.tensor, of_tuned.at(p.name))) << p.name << " is that of the dense model";
  EXPECT_THAT(error_of([&] { train(folder / "other", small_recipe({base})); }),
              HasSubstr("does not fit the recipe's model"));
}

}  // namespace
}  // namespace gatewright

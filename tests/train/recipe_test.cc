#include "gatewright/train/recipe.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "gatewright/base/file.h"
#include "gatewright/models/presets.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kWholeRecipe = R"(seed = 3
[model]
vocab_size = 300
hidden_size = 32
num_layers = 2
num_heads = 4
[experts]
num_experts = 4
width = 16
[routing]
top_k = 2
[train]
steps = 10
)";

/// The message of the UsageError (exit code 2) that a recipe ends with.
std::string problems_of(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    make_recipe(text, "r.toml", settings);
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Recipe, SaysWhichModelIsTrainedHow) {
  const Recipe recipe = make_recipe(kWholeRecipe, "r.toml");
  EXPECT_EQ(recipe.seed, 3u);
  EXPECT_EQ(recipe.model.vocab_size, 300);
  EXPECT_EQ(recipe.model.num_layers(), 2);
  EXPECT_EQ(recipe.model.head_dim, 8) << "hidden_size / num_heads";
  EXPECT_EQ(recipe.model.num_kv_heads, 4) << "as many as num_heads";
  const FeedForwardSpec& layer = recipe.model.layers[1];
  EXPECT_TRUE(layer.routed);
  EXPECT_EQ(layer.num_experts, 4);
  EXPECT_EQ(layer.experts.name, "swiglu");
  EXPECT_EQ(layer.experts.values.integer("width"), 16);
  EXPECT_EQ(layer.router.selector.name, "top_k");
  EXPECT_EQ(layer.router.selector.values.integer("top_k"), 2);
  EXPECT_EQ(recipe.train.steps, 10);
  EXPECT_EQ(recipe.train.schedule.name, "cosine");
}

TEST(Recipe, EveryStartingRecipeIsSound) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(GATEWRIGHT_SOURCE_DIR "/recipes")) {
    if (entry.path().extension() != ".toml") continue;
    SCOPED_TRACE(entry.path().filename());
    EXPECT_NO_THROW(load_recipe(entry.path()));
    ++count;
  }
  EXPECT_GE(count, 2);
}

TEST(Recipe, TinyIsWhatItSays) {
  const Recipe recipe = load_recipe(GATEWRIGHT_SOURCE_DIR "/recipes/tiny.toml");
  const ParameterCounts counts = count_parameters(recipe.model);
  EXPECT_GT(counts.total, 800'000) << "about a million parameters";
  EXPECT_LT(counts.total, 1'200'000);
  EXPECT_EQ(recipe.model.layers[0].num_experts, 8);
  EXPECT_EQ(recipe.model.layers[0].router.selector.values.integer("top_k"), 2);
}

// --- all problems at once ---

TEST(Recipe, EveryProblemIsReportedAtOnceWithLineKeyAndTheNearest) {
  const std::string message = problems_of(R"([model]
hiden_size = 64
num_heads = "four"
tie_word_embeddings = 1

[experts]
bank = "swiglo"
num_experts = 0

[routing]
selector = "top_p"
top_p = 1.5
top_k = 2

[train]
learning_rate = -0.1

[ballance.switch]
weight = 1
)");
  EXPECT_THAT(message, StartsWith("r.toml has 9 problems:"));
  for (const char* problem :
       {"r.toml:2: model.hiden_size is not a key of [model], did you mean 'hidden_size'?",
        "r.toml:3: model.num_heads must be a whole number, got \"four\"",
        "r.toml:4: model.tie_word_embeddings must be true or false, got 1",
        "r.toml:7: experts.bank must be one of swiglu, gelu, relu, silu, clamped_swiglu, lora, mlp_union, "
        "got 'swiglo', did "
        "you mean "
        "'swiglu'?",
        "r.toml:8: experts.num_experts must be in [1, 65536], got 0", "r.toml:12: routing.top_p",
        "r.toml:13: routing.top_k is not a key of [routing]",
        "r.toml:16: train.learning_rate must be in (0, 10], got -0.1",
        "[ballance] is not a table of a recipe, did you mean 'balance'?"})
    EXPECT_THAT(message, HasSubstr(problem));
}

TEST(Recipe, OneProblemIsOneLine) {
  EXPECT_EQ(problems_of(kWholeRecipe + "stepps = 3\n"),
            "r.toml:14: train.stepps is not a key of [train], did you mean 'steps'?");
}

TEST(Recipe, ManyProblemsAreCutWithTheirNumber) {
  std::string text = kWholeRecipe;
  for (int i = 0; i < 50; ++i) text += "nonsense" + std::to_string(i) + " = 1\n";
  const std::string message = problems_of(text);
  EXPECT_THAT(message, AllOf(StartsWith("r.toml has 50 problems:"), HasSubstr("and 40 more")));
}

TEST(Recipe, TextThatIsNoTomlIsNamedWithItsLine) {
  EXPECT_THAT(problems_of("seed = 1\n[model\n"), StartsWith("r.toml:2: this is not TOML"));
  EXPECT_THAT(problems_of("seed = 1\n[\n"), StartsWith("r.toml:2: this is not TOML"));
  EXPECT_THAT(problems_of("seed = = 1\n"), StartsWith("r.toml:1: this is not TOML"));
  EXPECT_THAT(problems_of("seed = 1\nseed = 2\n"), StartsWith("r.toml:2: this is not TOML"));
  EXPECT_THAT(problems_of("\xff\xfe"), StartsWith("r.toml:1: this is not TOML"));
  EXPECT_THAT(problems_of(std::string("seed = 1\n\0", 10)), StartsWith("r.toml:2: this is not TOML"));
}

TEST(Recipe, ValuesOfTypesThatRecipesDoNotHaveAreNamed) {
  EXPECT_THAT(problems_of("seed = 1979-05-27\n"), HasSubstr("r.toml:1: seed has a value of a type"));
  EXPECT_THAT(problems_of(kWholeRecipe + "steps_ = [1, \"a\"]\n"),
              HasSubstr("r.toml:14: train.steps_ has a value of a type"));
  EXPECT_THAT(problems_of(kWholeRecipe + "[[train.more]]\n"), HasSubstr("more"));
  EXPECT_THAT(problems_of("[[model]]\nhidden_size = 32\n"),
              HasSubstr("[[model]]: one table [model] was expected"));
}

TEST(Recipe, NumbersMustBeFiniteAndInRange) {
  for (const char* value : {"nan", "inf", "-inf", "0", "0.0", "-1e-9", "10.5", "1e300"})
    EXPECT_THAT(problems_of(kWholeRecipe + "learning_rate = " + value + "\n"),
                StartsWith("r.toml:14: train.learning_rate must be"))
        << value;
  for (const char* value : {"1", "10", "1e-12"})
    EXPECT_NO_THROW(make_recipe(kWholeRecipe + "learning_rate = " + value + "\n", "r.toml")) << value;
  EXPECT_THAT(problems_of(kWholeRecipe + "beta1 = 1\n"), HasSubstr("train.beta1 must be in [0, 1), got 1"));
  EXPECT_THAT(problems_of(kWholeRecipe + "batch_size = 9223372036854775807\n"),
              HasSubstr("train.batch_size"));
  EXPECT_THAT(problems_of(kWholeRecipe + "batch_size = 2.5\n"), HasSubstr("must be a whole number, got 2.5"));
  EXPECT_THAT(problems_of("seed = -1\n"), HasSubstr("seed must be"));
}

// --- conflicts ---

TEST(Recipe, ContradictionsAreNamed) {
  EXPECT_THAT(problems_of("[model]\ndense_width = 64\n[experts]\nnum_experts = 4\n"),
              HasSubstr("r.toml:2: model.dense_width and [experts] contradict each other"));
  EXPECT_THAT(problems_of("[model]\nhidden_size = 32\n"),
              HasSubstr("neither model.dense_width (a dense model) nor"));
  EXPECT_THAT(problems_of("[model]\ndense_width = 64\n[balance.switch]\nweight = 1\n"),
              HasSubstr("[balance] is for routed layers"));
  EXPECT_THAT(problems_of(kWholeRecipe, {"routing.top_k=5"}), AllOf(HasSubstr("5"), HasSubstr("4")));
  EXPECT_THAT(problems_of(kWholeRecipe, {"model.num_heads=5"}),
              HasSubstr("model.hidden_size = 32 is no multiple of model.num_heads = 5"));
  EXPECT_THAT(problems_of(kWholeRecipe, {"model.num_kv_heads=3"}), HasSubstr("num_key_value_heads = 3"));
  EXPECT_THAT(problems_of("sede = 1\n" + kWholeRecipe + "stpes = 3\n", {"routing.top_k=5"}),
              AllOf(HasSubstr("sede"), HasSubstr("stpes"), HasSubstr("top_k = 5 of 4 experts")))
      << "beside problems of other tables";
}

TEST(Recipe, LayersMayDiffer) {
  const Recipe recipe = make_recipe(kWholeRecipe + R"(
[[layers]]
at = [0]
dense_width = 48
[[layers]]
at = [1]
[layers.experts]
num_experts = 8
[layers.routing]
selector = "top_p"
top_p = 0.6
)",
                                    "r.toml");
  EXPECT_FALSE(recipe.model.layers[0].routed);
  EXPECT_EQ(recipe.model.layers[0].dense_width, 48);
  EXPECT_EQ(recipe.model.layers[1].num_experts, 8);
  EXPECT_EQ(recipe.model.layers[1].experts.values.integer("width"), 16) << "what is not said anew stays";
  EXPECT_EQ(recipe.model.layers[1].router.selector.name, "top_p");
  EXPECT_THAT(problems_of(kWholeRecipe + "[[layers]]\ndense_width = 3\n"),
              HasSubstr("[layers] needs the key 'at'"));
  EXPECT_THAT(problems_of(kWholeRecipe + "[[layers]]\nat = [2]\n"),
              HasSubstr("layers.at must be in [0, 1], got 2"));
  EXPECT_THAT(
      problems_of(kWholeRecipe + "[[layers]]\nat = [0]\ndense_width = 3\n[layers.routing]\ntop_k = 1\n"),
      HasSubstr("layers.dense_width makes the layers dense, and [layers.routing] routes them"));
}

TEST(Recipe, PresetsAreStartingPointsThatOtherKeysOverride) {
  const Recipe plain = make_recipe("[model]\npreset = \"tiny\"\n", "r.toml");
  const DecoderSpec tiny = model_presets().at("tiny").make(0);
  EXPECT_EQ(count_parameters(plain.model).total, count_parameters(tiny).total);
  const Recipe changed = make_recipe(
      "[model]\npreset = \"tiny\"\nhidden_size = 96\nhead_dim = 24\n[routing]\nselector = \"top_p\"\ntop_p = "
      "0.5\n",
      "r.toml");
  EXPECT_EQ(changed.model.hidden_size, 96);
  EXPECT_EQ(changed.model.layers[0].num_experts, 8);
  EXPECT_EQ(changed.model.layers[0].router.selector.name, "top_p");
  EXPECT_THAT(problems_of("[model]\npreset = \"tinny\"\ndense_width = 8\n"),
              HasSubstr("did you mean 'tiny'?"));
}

// --- --set ---

TEST(RecipeSettings, LieOverTheFile) {
  const Recipe recipe = make_recipe(
      kWholeRecipe, "r.toml",
      {"train.steps=200", "model.tie_word_embeddings=true", "train.learning_rate=2e-3", "train.schedule=wsd",
       "balance.switch.weight=0.5", "seed=9", "data.paths=[\"a\", \"b\"]", "train.steps=300"});
  EXPECT_EQ(recipe.train.steps, 300) << "the last one holds";
  EXPECT_TRUE(recipe.model.tie_word_embeddings);
  EXPECT_EQ(recipe.train.learning_rate, 2e-3);
  EXPECT_EQ(recipe.train.schedule.name, "wsd");
  EXPECT_EQ(recipe.model.layers[0].router.balance[0].values.number("weight"), 0.5);
  EXPECT_EQ(recipe.seed, 9u);
  EXPECT_THAT(recipe.data.paths, ElementsAre("a", "b"));
}

TEST(RecipeSettings, ReplaceAPieceTogetherWithItsParameters) {
  // top_k belongs to the selector that is replaced, whether the file names it or leaves it at its default.
  EXPECT_EQ(
      make_recipe(kWholeRecipe, "r.toml", {"routing.selector=top_p"}).model.layers[0].router.selector.name,
      "top_p");
  std::string named = kWholeRecipe;
  named.replace(named.find("top_k = 2"), 0, "selector = \"top_k\"\n");
  EXPECT_EQ(make_recipe(named, "r.toml", {"routing.selector=min_p"}).model.layers[0].router.selector.name,
            "min_p");
  EXPECT_THAT(problems_of(kWholeRecipe, {"routing.selector=top_p", "routing.top_k=3"}),
              HasSubstr("routing.top_k is not a key"));
}

TEST(RecipeSettings, ProblemsNameTheSetting) {
  EXPECT_EQ(problems_of(kWholeRecipe, {"train.step=5"}),
            "--set train.step=5: train.step is not a key of [train], did you mean 'steps'?");
  EXPECT_THAT(problems_of(kWholeRecipe, {"train.steps=many"}),
              HasSubstr("--set train.steps=many: train.steps must be a whole number, got \"many\""));
  EXPECT_THAT(problems_of(kWholeRecipe, {"train.steps=1", "train.steps=-1"}),
              HasSubstr("--set train.steps=-1"));
  EXPECT_THAT(problems_of(kWholeRecipe, {"trian.steps=1"}), HasSubstr("did you mean 'train'?"));
  for (const char* wrong : {"train.steps", "=5", ""})
    EXPECT_THAT(problems_of(kWholeRecipe, {wrong}), HasSubstr("KEY=VALUE was expected"));
  for (const char* wrong : {"train.steps=", "train..steps=1", ".=1", "train.=1", "train.steps.more=1"})
    EXPECT_THAT(problems_of(kWholeRecipe, {wrong}), HasSubstr("--set ")) << wrong;
  EXPECT_THAT(problems_of(kWholeRecipe, {"train.steps=99999999999999999999"}), HasSubstr("train.steps"));
}

TEST(RecipeSettings, OfTheSameTrainingAreEqualHoweverTheyAreSaid) {
  const auto settings = [](const std::vector<std::string>& set) {
    return make_recipe(kWholeRecipe, "r.toml", set).settings;
  };
  EXPECT_EQ(settings({}), settings({"train.steps=10"}));
  for (const char* reporting : {"train.log_every=1", "train.evaluate_every=3", "train.evaluate_tokens=5",
                                "train.checkpoint_every=2", "train.spike_factor=9", "data.paths=[\"x\"]"})
    EXPECT_EQ(settings({}), settings({reporting})) << reporting;
  for (const char* deciding :
       {"train.steps=11", "seed=4", "train.learning_rate=0.5", "routing.top_k=1", "model.hidden_size=64",
        "balance.z_loss.weight=1", "data.validation_share=0.5"})
    EXPECT_NE(settings({}), settings({deciding})) << deciding;
}

// --- hostile recipes ---

TEST(RecipeRefuses, NestingWithoutEnd) {
  const int many = 200'000;
  std::string brackets = "a = ", tables = "a = ", keys = "a", header = "[a",
              text_first = "a = {b = \"\"\"\n\"\"\", a";
  for (int i = 0; i < many; ++i) {
    brackets += "[";
    tables += "{a=";
    keys += ".a";
    header += ".\"a\"";
    text_first += " . 'a'";
  }
  for (const std::string& text : {brackets, tables, keys + " = 1", header + "]", text_first + " = 1}"})
    EXPECT_EQ(problems_of(text), "r.toml is not a recipe: its tables are nested without end");
  EXPECT_THAT(problems_of(kWholeRecipe, {keys + "=1"}), HasSubstr("nested without end"));
  EXPECT_THAT(problems_of(kWholeRecipe, {"a=" + brackets.substr(4)}), HasSubstr("nested without end"));
}

TEST(Recipe, BracketsAndDotsInTextsAndCommentsAreNoNesting) {
  const std::string dots(500, '.'), brackets(500, '[');
  EXPECT_NO_THROW(make_recipe("# " + dots + brackets + "\n" + kWholeRecipe + "[data]\ntokenizer = \"" + dots +
                                  brackets + "\"\npaths = ['" + dots + brackets + "', \"\"\"\n" + brackets +
                                  "\n\\\"" + dots + "\"\"\", \"\\\"" + brackets + "\"]\n",
                              "r.toml"));
}

TEST(RecipeRefuses, ControlCharactersAndLongTextsStayOutOfMessages) {
  const std::string message = problems_of(kWholeRecipe + "\"a\\u001b[31m\" = 1\n");
  EXPECT_EQ(message.find('\x1b'), std::string::npos) << message;
  EXPECT_EQ(problems_of(kWholeRecipe, {"\x1b[31m"}),
            "--set ?[31m: KEY=VALUE was expected, for example --set train.steps=200");
  EXPECT_LT(problems_of(kWholeRecipe + std::string(1 << 20, 'a') + " = 1\n").size(), 1000u);
  EXPECT_LT(problems_of(kWholeRecipe + "schedule = \"" + std::string(1 << 20, 'a') + "\"\n").size(), 1000u);
}

TEST(LoadRecipe, NamesFilesThatAreNone) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { load_recipe(folder / "none.toml"); }), HasSubstr("there is no recipe"));
  EXPECT_THAT(error_of([&] { load_recipe(folder.path()); }), HasSubstr("is a folder"));
  const auto large = folder.write("large.toml", std::string(5 << 20, '#'));
  EXPECT_THAT(error_of([&] { load_recipe(large); }), HasSubstr("large.toml is larger than"));
  const auto file = folder.write("ok.toml", kWholeRecipe);
  EXPECT_EQ(load_recipe(file).settings, make_recipe(kWholeRecipe, "r.toml").settings);
  EXPECT_THAT(
      error_of([&] { load_recipe(folder.write("bad.toml", "seed = true\n" + kWholeRecipe.substr(9))); }),
      StartsWith((folder / "bad.toml").string() + ":1: seed must be a whole number"));
}

TEST(Recipe, RefusesChunksThatDoNotDivideTheSequence) {
  EXPECT_THAT(problems_of(kWholeRecipe, {"balance.chunk_sparsity.chunk=48", "train.sequence_length=128"}),
              HasSubstr("[chunk_sparsity] chunk = 48 must divide train.sequence_length = 128"));
}

TEST(Recipe, AlternatesRoutedAndDenseLayers) {
  const DecoderSpec model = make_recipe(kWholeRecipe, "r.toml",
                                        {"model.num_layers=5", "model.routed_every=2", "model.routed_first=1",
                                         "model.dense_width=48"})
                                .model;
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(model.layers[i].routed, i % 2 == 1) << i;
    EXPECT_EQ(model.layers[i].dense_width, i % 2 == 1 ? 0 : 48) << i;
  }
  EXPECT_THAT(problems_of(kWholeRecipe, {"model.routed_every=3"}),
              HasSubstr("model.routed_every = 3 makes the layers between dense; model.dense_width must give "
                        "their width"));
  EXPECT_THAT(problems_of(kWholeRecipe, {"model.routed_first=2"}),
              HasSubstr("model.routed_first = 2 must be below model.routed_every = 1"));
}

TEST(Recipe, OfEveryMethodsPageIsOne) {
  int recipes = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "docs/methods")) {
    const std::string text = read_file(file.path()), open = "```toml\n";
    for (size_t at = text.find(open); at != std::string::npos; at = text.find(open, at)) {
      at += open.size();
      const std::string recipe = text.substr(at, text.find("```", at) - at);
      EXPECT_NO_THROW(make_recipe(recipe, file.path().filename().string())) << recipe;
      ++recipes;
    }
  }
  EXPECT_GE(recipes, 1);
}

}  // namespace
}  // namespace gatewright

// What a recipe's author reads when something is wrong.
#include <gmock/gmock.h>

#include "gatewright/models/presets.h"
#include "gatewright/train/recipe.h"

namespace gatewright {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kPlainRecipe = R"(
[model]
vocab_size = 512
hidden_size = 32
num_layers = 2
num_heads = 2

[experts]
num_experts = 4
width = 32

[routing]
selector = "top_p"

[train]
steps = 10
)";

std::string problem_of(const std::vector<std::string>& settings) {
  try {
    make_recipe(kPlainRecipe, "r.toml", settings);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(RecipeMessages, SayInWhichTableAKeyBelongs) {
  EXPECT_EQ(problem_of({"steps=3"}),
            "--set steps=3: steps is not a key of a recipe, did you mean 'train.steps'?");
  EXPECT_EQ(problem_of({"routing.num_experts=3"}),
            "--set routing.num_experts=3: routing.num_experts is not a key of [routing], did you mean "
            "'experts.num_experts'?");
  EXPECT_EQ(problem_of({"routing.factor=1.5"}),
            "--set routing.factor=1.5: routing.factor is not a key of [routing], did you mean "
            "'routing.capacity.factor'?");
}

TEST(RecipeMessages, SayWhichPieceHasAKey) {
  EXPECT_EQ(problem_of({"routing.threshold=0.3"}),
            "--set routing.threshold=0.3: routing.threshold is not a key of [routing] as it is; it belongs "
            "to selector "
            "= \"threshold\"");
  EXPECT_EQ(problem_of({"train.decay_share=0.3"}),
            "--set train.decay_share=0.3: train.decay_share is not a key of [train] as it is; it belongs to "
            "schedule = "
            "\"wsd\"");
}

TEST(RecipeMessages, FindTheNearestKeyOfTheTable) {
  EXPECT_EQ(problem_of({"train.stepz=3"}),
            "--set train.stepz=3: train.stepz is not a key of [train], did you mean 'steps'?");
}

TEST(RecipeMessages, CountAWrongNameOnce) {
  const std::string problem = problem_of({"routing.selector=top_q", "routing.top_k=2"});
  EXPECT_THAT(problem, HasSubstr("got 'top_q', did you mean 'top_k'?"));
  EXPECT_THAT(problem, Not(HasSubstr("problems")));
}

TEST(RecipeMessages, TellWhatIsWrongWithAllLayersOnce) {
  const std::string recipe = kPlainRecipe + "[[layers]]\nat = [0]\n[layers.routing]\ntop_p = 0.1\n";
  try {
    make_recipe(recipe, "r.toml", {"routing.widht=3"});
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), Not(HasSubstr("problems")));
  }
}

TEST(RecipeMessages, NameTheFileOfAnEmptyRecipe) {
  try {
    make_recipe("", "r.toml");
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), HasSubstr("r.toml"));
  }
}

TEST(RecipeMessages, NameThePlaceOfAKeyThatContradictsAnother) {
  EXPECT_EQ(problem_of({"routing.selector=top_k", "routing.top_k=9", "routing.scale=2"}),
            "--set routing.top_k=9: the model cannot be built: layers 0, 1: top_k = 9 of 4 experts; choose "
            "at most 4");
}

TEST(RecipeMessages, TellNumbersApart) {
  EXPECT_EQ(problem_of({"train.steps=1e3"}),
            "--set train.steps=1e3: train.steps must be a whole number, got 1000.0");
  EXPECT_EQ(problem_of({"train.batch_size=1048577"}),
            "--set train.batch_size=1048577: train.batch_size must be in [1, 1048576], got 1048577");
}

TEST(RecipeMessages, AskForHeadsThatDivide) {
  EXPECT_EQ(
      problem_of({"model.num_heads=3"}),
      "--set model.num_heads=3: model.hidden_size = 32 is no multiple of model.num_heads = 3; model.head_dim "
      "would allow it");
  EXPECT_EQ(problem_of({"model.num_heads=3", "model.head_dim=12"}), "");
}

TEST(RecipeTables, HaveEveryTableOfARecipe) {
  std::vector<std::string> names;
  for (const Spec& table : recipe_tables()) names.push_back(table.name);
  EXPECT_EQ(names, (std::vector<std::string>{"top", "model", "experts", "routing", "attention", "balance",
                                             "layers", "train", "data"}));
}

TEST(PresetSettings, SayWhatAPresetStandsFor) {
  const OrderedJson settings = preset_settings("olmoe-1b-7b");
  EXPECT_EQ(settings["model"]["hidden_size"], 2048);
  EXPECT_EQ(settings["experts"]["num_experts"], 64);
  EXPECT_EQ(settings["routing"]["top_k"], 8);
}

TEST(PresetSettings, AreARecipe) {
  for (const std::string& preset : model_presets().names()) {
    const Recipe recipe = make_recipe("[model]\npreset = \"" + preset + "\"\n", "r.toml");
    EXPECT_EQ(recipe.model.hidden_size, preset_settings(preset)["model"]["hidden_size"]) << preset;
  }
}

}  // namespace
}  // namespace gatewright

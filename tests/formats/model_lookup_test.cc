#include "gatewright/formats/model_lookup.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ModelLookup : public testing::Test {
 protected:
  ModelLookup() {
    folder_.write("models/SmolLM2-135M-Instruct.Q4_1.gguf", "");
    folder_.write("models/all-minilm-l6-v2/config.json", "{}");
    folder_.write("models/all-minilm-l12-v2/config.json", "{}");
    folder_.write("models/.partial-x/olmoe.gguf", "");
  }
  std::string found(const std::string& name) const { return find_model(name, models_).filename().string(); }
  std::string error(const std::string& name) const {
    return error_of([&] { find_model(name, models_); });
  }

  TemporaryFolder folder_;
  std::filesystem::path models_ = folder_ / "models";
};

TEST_F(ModelLookup, APathThatExistsIsTaken) {
  EXPECT_EQ(find_model(folder_.path().string(), models_), folder_.path());
  EXPECT_THAT(error(folder_.path().string() + "/none"),
              HasSubstr("there is no model '" + folder_.path().string()));
}

TEST_F(ModelLookup, AFolderWithOneGgufFileStandsForIt) {
  folder_.write("trained/model.gguf", "");
  folder_.write("trained/metrics.jsonl", "");
  const std::filesystem::path trained = folder_ / "trained";
  EXPECT_EQ(find_model(trained.string(), models_), trained / "model.gguf");
  folder_.write("trained/config.json", "{}");
  EXPECT_EQ(find_model(trained.string(), models_), trained);
  std::filesystem::remove(trained / "config.json");
  folder_.write("trained/other.gguf", "");
  EXPECT_EQ(find_model(trained.string(), models_), trained);
}

TEST_F(ModelLookup, APartOfTheNameIsEnoughInAnyCase) {
  EXPECT_EQ(found("smollm2"), "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(found("135M"), "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(found("MINILM-L6"), "all-minilm-l6-v2");
  EXPECT_EQ(found("all-minilm-l6-v2"), "all-minilm-l6-v2");
}

TEST_F(ModelLookup, AWrongNameGetsTheNearest) {
  EXPECT_EQ(error("smolm2"), "there is no model 'smolm2', did you mean 'SmolLM2-135M-Instruct.Q4_1.gguf'?");
  EXPECT_THAT(error("olmoe"),
              AllOf(HasSubstr("there is no model 'olmoe' (in "), HasSubstr("all-minilm-l6-v2")));
  EXPECT_THAT(error(""), HasSubstr("there is no model ''"));
}

TEST_F(ModelLookup, ANameOfSeveralIsRefusedWithAllOfThem) {
  EXPECT_THAT(error("minilm"),
              AllOf(HasSubstr("more than one model"), HasSubstr("all-minilm-l12-v2, all-minilm-l6-v2")));
}

TEST_F(ModelLookup, AnEmptyFolderSaysHowToFillIt) {
  EXPECT_THAT(error_of([&] { find_model("smollm2", folder_ / "nothing"); }), HasSubstr("tools/get-models"));
}

TEST_F(ModelLookup, TheFolderIsTheUsersCache) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before ? before : "";
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(models_folder(), "/somewhere/gatewright/models");
  setenv("XDG_CACHE_HOME", kept.c_str(), 1);
  if (!before) unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace gatewright

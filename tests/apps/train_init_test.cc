// The verb train, going on from a published model's file: a dense one, made a mixture, whose routers are
// trained.
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "tests/apps/run_command.h"
#include "tests/models/families/random_model.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace fs = std::filesystem;

const std::string kRouterRecipe = R"(seed = 3
[train]
init = "overridden"
parameters = "routers"
steps = 4
batch_size = 2
sequence_length = 16
learning_rate = 0.05
log_every = 1
last_evaluate_tokens = 200
[balance.switch]
weight = 0.01
)";

class TrainInit : public testing::Test {
 protected:
  TrainInit() {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the gate " + std::to_string(i * i % 97) + " opens at dawn. ";
    folder_.write("text/a.txt", text);
    folder_.write("text/b.txt", text.substr(500));
    folder_.write("routers.toml", kRouterRecipe);
    BpeTrainer trainer;
    trainer.add(text);
    GgufVocabulary vocabulary = gguf_vocabulary(trainer.train({.vocab_size = 280}).tokenizer.definition());
    vocabulary.chat_template =
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt "
        "%}assistant: {% endif %}";
    GgufMetadata keys;
    write_gguf_vocabulary(vocabulary, keys);
    Architecture dense = tiny_architecture("llama");
    dense.vocab_size = 280;
    convert_to_gguf(RandomModel(dense, keys), folder_ / "dense.gguf");
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  CommandResult good(const std::vector<std::string>& arguments, const CommandOptions& options = {}) const {
    const CommandResult r = run(arguments, options);
    EXPECT_EQ(r.code, 0) << arguments[0] << ": " << r.err;
    return r;
  }

  TemporaryFolder folder_;
};

class TrainInitFrom : public TrainInit, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Formats, TrainInitFrom, testing::Values("mixture.gguf", "mixture"),
                         [](const auto& info) { return info.index == 0 ? "Gguf" : "Folder"; });

TEST_P(TrainInitFrom, TrainsTheRoutersOfAMixtureAndEveryVerbTakesTheResult) {
  const std::string mixture = path(GetParam()), trained = path("trained");
  good({"upcycle", path("dense.gguf"), mixture, "--experts", "4", "--top-k", "2", "--split", "neurons"});
  const Json result = Json::parse(good({"train", path("routers.toml"), "--data", path("text"), "--out",
                                        trained, "--set", "train.init=" + mixture, "--json"})
                                      .out);
  EXPECT_EQ(result.at("steps"), 4);

  // The routers differ, and nothing else.
  const CommandResult diff =
      run({"diff", mixture, fs::path(mixture).extension() == ".gguf" ? trained + "/model.gguf" : trained,
           "--json"});
  EXPECT_EQ(diff.code, 1) << diff.err;
  const Json differences = Json::parse(diff.out);
  std::vector<std::string> changed;
  for (const Json& tensor : differences.at("tensors")) changed.push_back(tensor.at("name"));
  ASSERT_EQ(changed.size(), 3u) << diff.out;
  EXPECT_THAT(changed, Each(testing::AnyOf(HasSubstr("ffn_gate_inp"), HasSubstr("block_sparse_moe.gate"))));

  const Json shown = Json::parse(good({"show", trained, "--json"}).out);
  EXPECT_EQ(shown.at("architecture"), Json::parse(good({"show", mixture, "--json"}).out).at("architecture"));
  EXPECT_EQ(shown.at("experts"), 4);
  EXPECT_EQ(shown.at("experts_per_token"), 2);
  EXPECT_EQ(shown.at("runs"), true);

  const Json inspected =
      Json::parse(good({"inspect", trained, "--data", path("text"), "--tokens", "400", "--json"}).out);
  EXPECT_EQ(inspected.at("layers").size(), 3u);

  const CommandResult answer =
      good({"chat", trained, "--tokens", "5", "--temperature", "0"}, {.input = "the gate\n"});
  EXPECT_THAT(answer.out, Not(IsEmpty()));

  const std::string other = fs::path(mixture).extension() == ".gguf" ? path("there") : path("there.gguf");
  good({"convert", trained, other});
  const auto logits = [&](const std::string& model) {
    return Json::parse(good({"logits", model, "--tokens", "1,2,3,4", "--json"}).out).at("logits");
  };
  EXPECT_EQ(logits(other), logits(trained)) << "bit for bit";
}

TEST_F(TrainInit, ADenseModelHasNoRoutersToTrain) {
  const CommandResult r = run({"train", path("routers.toml"), "--data", path("text"), "--out",
                               path("trained"), "--set", "train.init=" + path("dense.gguf")});
  EXPECT_EQ(r.code, 2) << r.err;
  EXPECT_THAT(r.err, AllOf(HasSubstr("has no routed layer"), HasSubstr("gatewright upcycle")));
  EXPECT_FALSE(fs::exists(path("trained")));
}

}  // namespace
}  // namespace gatewright

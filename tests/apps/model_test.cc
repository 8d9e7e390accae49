// The verbs on models: train, evaluate, generate, inspect, logits.
#include <csignal>

#include <cmath>
#include <thread>

#include "gatewright/base/json.h"
#include "tests/apps/trained_model.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

namespace fs = std::filesystem;

class ModelCommand : public TrainedModel {};

// --- train ---

TEST_F(ModelCommand, TrainLeavesAModelAndItsMetrics) {
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl"})
    EXPECT_TRUE(fs::exists(path("model") + "/" + file)) << file;
  std::istringstream lines(read_file(path("model/metrics.jsonl")));
  std::string line;
  std::getline(lines, line);
  const Json first = Json::parse(line);
  EXPECT_EQ(first.at("step"), 1);
  EXPECT_TRUE(first.at("loss").is_number());
  EXPECT_TRUE(first.at("tokens_per_second").is_number());
  EXPECT_THAT(trained_->out, AllOf(HasSubstr("10 steps"), HasSubstr("bits per byte")));
}

TEST_F(ModelCommand, TrainDrawsNoProgressWhenNobodyLooks) {
  EXPECT_THAT(trained_->out + trained_->err, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\r"))));
}

TEST_F(ModelCommand, TrainReadsARecipeFromStandardInputAndGivesTheSameModel) {
  const CommandResult r =
      run({"train", "-", "--data", path("text"), "--out", path("from-stdin"), "--json", "--threads", "1"},
          {.input = kSmallRecipe});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(Json::parse(r.out).at("steps"), 10);
  EXPECT_EQ(read_file(path("from-stdin/model.safetensors")), read_file(path("model/model.safetensors")));
}

TEST_F(ModelCommand, TrainIntoAFinishedFolderDoesNothing) {
  const auto before = fs::last_write_time(path("model/model.safetensors"));
  const CommandResult r = train({}, "model");
  EXPECT_EQ(r.code, 0);
  EXPECT_THAT(r.err, HasSubstr("finished already"));
  EXPECT_EQ(fs::last_write_time(path("model/model.safetensors")), before);
  const CommandResult other = train({"--set", "train.steps=11"}, "model");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("train.steps is not the same"));
}

TEST_F(ModelCommand, ADryRunChecksEverythingAndWritesNothing) {
  const CommandResult r = train({"--dry-run"}, "dry");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("nothing was trained"));
  EXPECT_FALSE(fs::exists(path("dry")));
  EXPECT_EQ(train({"--dry-run", "--set", "train.steps=0"}, "dry").code, 2);
}

TEST_F(ModelCommand, AWrongRecipeIsWrongUse) {
  folder_->write("wrong.toml", kSmallRecipe + "stepps = 3\nclip_norm = -1\n");
  const CommandResult r = run({"train", path("wrong.toml"), "--data", path("text"), "--out", path("wrong")});
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, AllOf(HasSubstr("has 2 problems"), HasSubstr("wrong.toml:20: train.stepps"),
                           HasSubstr("did you mean 'steps'?"), HasSubstr("wrong.toml:21: train.clip_norm")));
  EXPECT_FALSE(fs::exists(path("wrong")));
  EXPECT_EQ(run({"train", "tinny", "--data", path("text"), "--out", path("wrong")}).code, 2);
  EXPECT_EQ(run({"train", "tiny", "--out", path("wrong")}).code, 2) << "no text";
}

TEST_F(ModelCommand, TextThatIsNoneIsAnError) {
  fs::create_directories(path("empty"));
  folder_->write("binary/x.bin", std::string(1000, '\0'));
  for (const char* data : {"empty", "binary", "missing"}) {
    const CommandResult r = run({"train", path("small.toml"), "--data", path(data), "--out", path("none")});
    EXPECT_EQ(r.code, 1) << data;
    EXPECT_THAT(r.err, HasSubstr(data));
    EXPECT_FALSE(fs::exists(path("none")));
  }
}

TEST_F(ModelCommand, AnOutputThatCannotBeWrittenIsFoundBeforeTheTraining) {
  folder_->write("file", "x");
  for (const char* out : {"file", "file/below"}) {
    const CommandResult r = train({}, out);
    EXPECT_EQ(r.code, 1);
    EXPECT_THAT(r.err, AllOf(HasSubstr("file"), Not(HasSubstr("step 1"))));
  }
  const CommandResult limited = train({}, "limited", {.file_size_limit = 20'000});
  EXPECT_EQ(limited.code, 1);
  EXPECT_THAT(limited.err, AllOf(HasSubstr("ulimit -f"), Not(HasSubstr("step 1"))));
  EXPECT_FALSE(fs::exists(path("limited")));
}

TEST_F(ModelCommand, InterruptionSavesAndTheSameCommandGoesOn) {
  const std::vector<std::string> arguments =
      train_arguments({"--set", "train.steps=1000000", "--set", "train.log_every=1"}, "interrupted");
  const fs::path metrics = path("interrupted/metrics.jsonl");
  const auto size = [&] { return fs::exists(metrics) ? fs::file_size(metrics) : 0; };
  /// Lets it train a few steps from where it is, then stops it.
  const auto train_a_little = [&] {
    const uintmax_t before = size();
    RunningCommand running(arguments, {});
    for (int i = 0; i < 6000 && size() < before + 1500; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    kill(running.pid(), SIGINT);
    return running.wait();
  };
  const auto step = [&] {
    return Json::parse(read_file(path("interrupted/checkpoint/training.json")))["progress"]["step"]
        .get<int64_t>();
  };
  const CommandResult first = train_a_little();
  EXPECT_EQ(first.code, 1) << first.err;
  EXPECT_THAT(first.err, HasSubstr("the same command goes on from there"));
  EXPECT_FALSE(fs::exists(path("interrupted/model.safetensors")));
  const int64_t stopped_at = step();
  EXPECT_GE(stopped_at, 3);
  const CommandResult second = train_a_little();
  EXPECT_EQ(second.code, 1) << second.err;
  EXPECT_THAT(second.err, HasSubstr(fmt::format("going on after step {} of 1000000", stopped_at)));
  EXPECT_GT(step(), stopped_at);
}

// --- evaluate, generate, logits ---

TEST_F(ModelCommand, EvaluateGivesPerplexityAndBitsPerByteForEachDomain) {
  const CommandResult r = run({"evaluate", path("model"), "--data", path("text"), "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const Json json = Json::parse(r.out);
  EXPECT_GT(json.at("bits_per_byte"), 0);
  EXPECT_GT(json.at("perplexity"), 1);
  EXPECT_THAT(r.out, AllOf(HasSubstr("prose"), HasSubstr("code")));
  EXPECT_THAT(run({"evaluate", path("model"), "--data", path("text")}).out,
              AllOf(HasSubstr("prose"), Not(HasSubstr("\x1b"))));
}

TEST_F(ModelCommand, GenerateContinuesTheSamePromptTheSameWay) {
  const auto generate = [&](const std::vector<std::string>& more, const std::string& input = "") {
    std::vector<std::string> arguments = {"generate", path("model"), "--tokens", "12", "--no-stop"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult r = run(arguments, {.input = input});
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  };
  const std::string text = generate({"--prompt", "the gate", "--temperature", "0"});
  EXPECT_THAT(text, StartsWith("the gate"));
  EXPECT_EQ(generate({"--prompt", "-", "--temperature", "0"}, "the gate"), text);
  EXPECT_EQ(generate({"--prompt", "the gate", "--seed", "3"}),
            generate({"--prompt", "the gate", "--seed", "3"}));
  const Json json = Json::parse(generate({"--prompt", "the gate", "--temperature", "0", "--json"}));
  EXPECT_EQ(json.at("tokens").size(), 12u);
}

TEST_F(ModelCommand, GenerateShowsProgressToAPersonAndKeepsItOutOfTheResult) {
  const std::vector<std::string> arguments = {
      "generate", path("model"), "--prompt", "the gate", "--tokens", "12", "--no-stop", "--temperature", "0"};
  const auto with = [&](const std::string& more) {
    std::vector<std::string> all = arguments;
    all.push_back(more);
    return all;
  };
  const CommandResult silent = run(with("--json"));
  EXPECT_THAT(silent.err, IsEmpty());
  const CommandResult watched = run(with("--json"), {.environment = {"TERM=xterm"}, .error_terminal = true});
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_EQ(watched.out, silent.out);
  EXPECT_THAT(watched.err, AllOf(HasSubstr("reading "), HasSubstr("writing 1/12 tokens")));
  EXPECT_THAT(watched.err, testing::EndsWith("\r\x1b[K")) << "the line is removed";
  const CommandResult text = run(arguments, {.environment = {"TERM=xterm"}, .error_terminal = true});
  EXPECT_THAT(text.out, AllOf(StartsWith("the gate"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(text.err, HasSubstr("writing 1/12 tokens")) << "standard output is a file";
}

TEST_F(ModelCommand, GenerateShowsHowFarALongPromptIsRead) {
  const std::vector<std::string> arguments = {"generate", path("model"),   "--prompt", "-",     "--tokens",
                                              "2",        "--temperature", "0",        "--json"};
  const CommandResult silent = run(arguments, {.input = long_text()});
  EXPECT_THAT(silent.err, IsEmpty());
  const CommandResult watched =
      run(arguments, {.input = long_text(), .environment = {"TERM=xterm"}, .error_terminal = true});
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_EQ(watched.out, silent.out);
  EXPECT_THAT(watched.err, AllOf(HasSubstr("\r\x1b[Kreading 2.05 k/3.00 k tokens"),
                                 HasSubstr("\r\x1b[Kreading 3.00 k/3.00 k tokens")))
      << "after each piece";
  EXPECT_THAT(watched.err, testing::EndsWith("\r\x1b[K")) << "the line is removed";
}

TEST_F(ModelCommand, LogitsGivesARowForEachTokenAndWhereItWasRouted) {
  const CommandResult r = run({"logits", path("model"), "--tokens", "1,2,3", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const Json json = Json::parse(r.out);
  EXPECT_EQ(json.at("tokens"), Json({1, 2, 3}));
  ASSERT_EQ(json.at("logits").size(), 3u);
  EXPECT_EQ(json["logits"][0].size(), Json::parse(read_file(path("model/config.json"))).at("vocab_size"));
  ASSERT_EQ(json.at("routing").size(), 2u) << "two layers";
  for (const char* wrong : {"1,2,x", "99999999"}) {
    const CommandResult refused = run({"logits", path("model"), "--tokens", wrong, "--json"});
    EXPECT_NE(refused.code, 0) << wrong;
    EXPECT_LE(refused.code, 2) << wrong;
    EXPECT_THAT(refused.out, IsEmpty());
  }
}

TEST_F(ModelCommand, LogitsShowsTheRoutingOfTheLayersAskedFor) {
  const auto logits = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"logits", path("model"), "--tokens", "1,2,3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const Json all = Json::parse(logits({"--json"}).out),
             one = Json::parse(logits({"--json", "--layers", "1"}).out);
  ASSERT_EQ(one.at("routing").size(), 1u);
  EXPECT_EQ(one["routing"][0], all.at("routing").at(1));
  EXPECT_EQ(one["logits"], all["logits"]);
  EXPECT_THAT(logits({"--layers", "0-1"}).out, AllOf(HasSubstr("\nlayer 0:"), HasSubstr("\nlayer 1:")));
  EXPECT_THAT(logits({}).out, Not(HasSubstr("layer")));
  for (const char* wrong : {"2", "0-2", "x", "1,"}) {
    const CommandResult refused = logits({"--layers", wrong});
    EXPECT_EQ(refused.code, 2) << wrong;
    EXPECT_THAT(refused.err, HasSubstr("--layers \"" + std::string(wrong))) << wrong;
  }
}

TEST_F(ModelCommand, GenerateWritesTheSameWithADraft) {
  const auto json_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", path("model"), "--prompt",  "the gate opens the gate",
                                          "--tokens", "24",          "--no-stop", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult r = run(arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out);
  };
  const Json alone = json_of({"--temperature", "0"});
  EXPECT_FALSE(alone.contains("draft"));
  const Json lookup = json_of({"--temperature", "0", "--draft", "lookup"});
  EXPECT_EQ(lookup.at("tokens"), alone.at("tokens"));
  const Json itself = json_of({"--temperature", "0", "--draft", path("model"), "--draft-tokens", "5"});
  EXPECT_EQ(itself.at("tokens"), alone.at("tokens"));
  EXPECT_EQ(itself.at("draft").at("passes"), 4) << "six tokens each";
  EXPECT_EQ(itself["draft"].at("accepted"), itself["draft"].at("drafted"));
  const CommandResult seen =
      run({"generate", path("model"), "--prompt", "the gate", "--tokens", "5", "--draft", "lookup"});
  EXPECT_THAT(seen.err, HasSubstr("drafted tokens were right"));
  EXPECT_EQ(run({"generate", path("model"), "--prompt", "x", "--draft", path("missing")}).code, 1);
}

// --- inspect ---

TEST_F(ModelCommand, InspectLooksAtTheLayersAskedFor) {
  const auto layers = [&](const std::vector<std::string>& arguments) {
    const CommandResult r = run(arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out).at("layers");
  };
  const std::vector<std::string> inspect = {"inspect", path("model"), "--data", path("text"), "--json"};
  const auto with = [](std::vector<std::string> all, const std::vector<std::string>& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const Json both = layers(with(inspect, {"--trace", path("both.trace")}));
  ASSERT_EQ(both.size(), 2u);
  for (const size_t layer : {0, 1}) {
    const std::string number = std::to_string(layer), trace = path("one-" + number + ".trace");
    const Json one = layers(with(inspect, {"--layers", number, "--trace", trace}));
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0], both[layer]);
    EXPECT_EQ(layers({"inspect", trace, "--json"}), one) << "its trace has this layer and no other";
    EXPECT_EQ(layers({"inspect", path("both.trace"), "--layers", number, "--json"}), one);
  }
  EXPECT_EQ(layers(with(inspect, {"--layers", "0,1"})), both);
  const CommandResult refused = run(with(inspect, {"--layers", "2"}));
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("the model has layers 0 to 1"));
}

TEST_F(ModelCommand, InspectSaysTheSameOfAModelAndOfItsTrace) {
  const CommandResult r =
      run({"inspect", path("model"), "--data", path("text"), "--json", "--trace", path("routing.trace")});
  ASSERT_EQ(r.code, 0) << r.err;
  const Json of_model = Json::parse(r.out),
             of_trace = Json::parse(run({"inspect", path("routing.trace"), "--json"}).out);
  EXPECT_EQ(of_model.at("layers").size(), 2u);
  EXPECT_EQ(of_model["layers"], of_trace.at("layers"));
  const CommandResult picture = run({"inspect", path("routing.trace")});
  EXPECT_EQ(picture.code, 0);
  EXPECT_THAT(picture.out, AllOf(HasSubstr("prose"), Not(HasSubstr("\x1b"))));
}

TEST_F(ModelCommand, InspectSaysHowUndecidedTheRoutersAre) {
  const std::vector<std::string> inspect = {"inspect", path("model"), "--data", path("text"),
                                            "--uncertainty"};
  const CommandResult text = run(inspect);
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("[routing.broadcast] threshold"));
  std::vector<std::string> as_json = inspect;
  as_json.emplace_back("--json");
  const Json json = Json::parse(run(as_json).out).at("uncertainty");
  ASSERT_EQ(json.at("layers").size(), 2u);
  for (const Json& layer : json["layers"]) {
    const double few = layer.at("thresholds").at("0.05"), many = layer["thresholds"].at("0.3");
    EXPECT_LE(many, few);
    EXPECT_LE(few, layer.at("at_most").get<double>());
    EXPECT_GT(layer.at("mean").get<double>(), 0);
  }
  EXPECT_GT(json.at("thresholds").at("0.1").get<double>(), 0);
  ASSERT_EQ(run({"inspect", path("model"), "--data", path("text"), "--trace", path("a.trace")}).code, 0);
  const CommandResult refused = run({"inspect", path("a.trace"), "--uncertainty"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("choices, not scores"));
}

TEST_F(ModelCommand, InspectRefusesADamagedTrace) {
  ASSERT_EQ(run({"inspect", path("model"), "--data", path("text"), "--trace", path("whole.trace")}).code, 0);
  const std::string whole = read_file(path("whole.trace"));
  folder_->write("cut.trace", whole.substr(0, whole.size() / 2));
  const CommandResult r = run({"inspect", path("cut.trace")});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.out, IsEmpty());
  EXPECT_THAT(r.err, HasSubstr("cut.trace"));
}

// --- models that are none ---

TEST_F(ModelCommand, AFolderThatIsNoModelIsNamed) {
  fs::create_directories(path("nothing"));
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"evaluate", path("nothing"), "--data", path("text")},
        {"generate", path("missing"), "--prompt", "x"},
        {"logits", path("small.toml"), "--tokens", "1", "--json"}}) {
    const CommandResult r = run(arguments);
    EXPECT_EQ(r.code, 1) << arguments[0];
    EXPECT_THAT(r.out, IsEmpty());
    EXPECT_THAT(r.err, HasSubstr(arguments[1]));
  }
  EXPECT_EQ(run({"evaluate", path("model")}).code, 2) << "--data is missing";
}

}  // namespace
}  // namespace gatewright

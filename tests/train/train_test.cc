#include "gatewright/train/train.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <map>

#include "gatewright/base/file.h"
#include "gatewright/formats/safetensors.h"
#include "gatewright/models/checkpoint.h"
#include "gatewright/train/trainer.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace fs = std::filesystem;

const std::vector<std::string> kFinished = {"config.json", "metrics.jsonl", "model.safetensors",
                                            "tokenizer.json", "training.json"};

std::vector<Json> metrics_of(const fs::path& out) {
  std::vector<Json> rows;
  std::istringstream lines(read_file(out / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) rows.push_back(Json::parse(line));
  return rows;
}

/// All files by name; of the metrics everything but the speed.
std::map<std::string, std::string> contents_of(const fs::path& out) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::recursive_directory_iterator(out)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), out).string();
    if (name != "metrics.jsonl") {
      contents[name] = read_file(entry.path());
      continue;
    }
    for (Json row : metrics_of(out)) {
      row.erase("tokens_per_second");
      contents[name] += row.dump() + "\n";
    }
  }
  return contents;
}

void expect_same_folder(const fs::path& a, const fs::path& b) {
  const auto of_a = contents_of(a), of_b = contents_of(b);
  ASSERT_EQ(of_a.size(), of_b.size());
  for (const auto& [name, content] : of_a) EXPECT_TRUE(of_b.at(name) == content) << name << " differs";
}

TEST(Train, LeavesAModelFolderAndLearns) {
  const TemporaryFolder folder;
  const TrainOutcome outcome = train(folder.path(), small_recipe({"train.steps=40"}));
  EXPECT_EQ(outcome.kind, TrainOutcome::Kind::kTrained);
  EXPECT_EQ(outcome.steps, 40);
  EXPECT_EQ(folder.files(), kFinished);
  const auto rows = metrics_of(folder.path());
  const double first = rows.front()["loss"], last = rows[39]["loss"];
  EXPECT_NEAR(first, std::log(300), 0.5) << "an untrained model guesses";
  EXPECT_LT(last, 0.7 * first);
  EXPECT_GT(outcome.validation_bits_per_byte, 0);
  EXPECT_NEAR(rows.back()["validation_bits_per_byte"], outcome.validation_bits_per_byte, 1e-12);
  EXPECT_EQ(load_decoder(folder.path()).spec().vocab_size,
            Tokenizer::load(folder / "tokenizer.json").vocab_size());
}

TEST(Train, MetricsAreJsonLinesWithNamedFields) {
  const TemporaryFolder folder;
  train(folder.path(), small_recipe({"train.log_every=5", "train.evaluate_every=6"}));
  std::vector<int64_t> steps, validations;
  for (const Json& row : metrics_of(folder.path())) {
    ASSERT_TRUE(row.at("step").is_number_integer());
    if (row.contains("validation_loss")) {
      validations.push_back(row["step"]);
      for (const char* field : {"validation_loss", "validation_bits_per_byte", "validation_experts_per_token",
                                "validation_load_imbalance"})
        EXPECT_TRUE(row.at(field).is_number()) << field;
      EXPECT_EQ(row.at("domains").size(), 2u);
      EXPECT_GT(row["domains"]["code"], 0);
      EXPECT_GT(row["domains"]["prose"], 0);
      continue;
    }
    steps.push_back(row["step"]);
    for (const char* field : {"loss", "bits_per_byte", "learning_rate", "gradient_norm", "tokens_per_second",
                              "experts_per_token", "load_imbalance", "dead_experts", "largest_logit"})
      EXPECT_TRUE(row.at(field).is_number()) << field;
    EXPECT_EQ(row["experts_per_token"], 2);
    EXPECT_TRUE(row["balance"].at("switch").is_number());
  }
  EXPECT_THAT(steps, ElementsAre(1, 5, 10, 12));
  EXPECT_THAT(validations, ElementsAre(6, 12));
}

TEST(Train, TheSameSeedGivesTheSameBitsAndAnotherSeedOthers) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) train(folder / name, small_recipe());
  expect_same_folder(folder / "a", folder / "b");
  train(folder / "c", small_recipe({"seed=6"}));
  EXPECT_NE(contents_of(folder / "c")["model.safetensors"], contents_of(folder / "a")["model.safetensors"]);
}

TEST(Train, CheckpointsAndReportsNeverChangeTheWeights) {
  const TemporaryFolder folder;
  train(folder / "plain", small_recipe());
  const std::string expected = read_file(folder / "plain/model.safetensors");
  for (const std::vector<std::string>& settings : {std::vector<std::string>{"train.checkpoint_every=1"},
                                                   {"train.checkpoint_every=5"},
                                                   {"train.evaluate_every=2", "train.evaluate_tokens=20"},
                                                   {"train.log_every=7"}}) {
    fs::remove_all(folder / "other");
    train(folder / "other", small_recipe(settings));
    EXPECT_TRUE(read_file(folder / "other/model.safetensors") == expected) << settings[0];
  }
}

/// Routers that keep something from step to step: noise draws, a bias without a loss, accumulated batches,
/// drawn tokens, a weight that adapts.
std::vector<std::vector<std::string>> kinds_of_state() {
  return {
      {},
      {"routing.noise.std=0.5", "train.accumulate=2"},
      {"balance.loss_free_bias.rate=0.01"},
      {"balance.expert_budget.experts_per_token=2.5", "routing.selector=top_p"},
      {"train.optimizer=adafactor"},
      {"train.objective=ul2", "train.ul2_share=0.6", "train.sentinels=8"},
      {"routing.scorer=random"},
      {"balance.global_batch.scope=shuffled", "train.accumulate=2", "routing.broadcast.threshold=1.3",
       "routing.ranked_capacity.factor=1"},
      {"balance.chunk_sparsity.chunk=8", "balance.chunk_sparsity.stable=2", "balance.chunk_sparsity.window=2",
       "routing.selector=relu", "routing.activation=relu_rms", "routing.weights=as_is", "experts.bank=silu"}};
}

TEST(Train, GoesOnBitForBitWhereverItWasCutOff) {
  // Some 34 sequences: the twelve steps of four cross an epoch, and every checkpoint but few is inside of
  // one.
  for (const std::vector<std::string>& kind : kinds_of_state()) {
    std::vector<std::string> settings = kind;
    settings.push_back("train.checkpoint_every=3");
    const TemporaryFolder folder;
    train(folder / "whole", small_recipe(settings));
    for (const int64_t step : {1, 3, 4, 8, 11, 12}) {
      SCOPED_TRACE((kind.empty() ? "plain" : kind[0]) + " cut at step " + std::to_string(step));
      fs::remove_all(folder / "cut");
      train_until_cut(folder / "cut", small_recipe(settings), step);
      EXPECT_FALSE(fs::exists(folder / "cut/model.safetensors"));
      EXPECT_EQ(train(folder / "cut", small_recipe(settings)).kind, TrainOutcome::Kind::kTrained);
      expect_same_folder(folder / "cut", folder / "whole");
    }
  }
}

TEST(Train, GoesOnAfterManyCuts) {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe({"train.checkpoint_every=2"});
  train(folder / "whole", recipe);
  for (const int64_t step : {3, 5, 6, 9, 12}) train_until_cut(folder / "cut", recipe, step);
  Recorder events;
  train_model({.recipe = recipe, .out = folder / "cut"}, small_corpus(), events);
  EXPECT_THAT(events.notes, testing::Contains("going on after step 10 of 12"));
  expect_same_folder(folder / "cut", folder / "whole");
}

TEST(Train, GoesOnFromWhatAnInterruptedSaveLeft) {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe({"train.checkpoint_every=3"});
  train(folder / "whole", recipe);
  train_until_cut(folder / "cut", recipe, 7);
  // Between the two renames of a save, beside a new one that is not finished.
  fs::rename(folder / "cut/checkpoint", folder / "cut/checkpoint.old");
  folder.write("cut/checkpoint.partial/model.safetensors", "cut off");
  train_until_cut(folder / "cut", recipe, 11);
  // While the finished model was written: its weights are there, its record is not.
  folder.write("cut/model.safetensors", "cut off");
  folder.write("cut/model.safetensors.partial", "cut off");
  train(folder / "cut", recipe);
  expect_same_folder(folder / "cut", folder / "whole");
}

TEST(Train, IntoAFinishedFolderChangesNothing) {
  const TemporaryFolder folder;
  train(folder.path(), small_recipe());
  const auto before = contents_of(folder.path());
  std::map<std::string, fs::file_time_type> times;
  for (const std::string& name : folder.files()) times[name] = fs::last_write_time(folder / name);
  Recorder events;
  const auto again = train_model({.recipe = small_recipe({"train.log_every=3"}), .out = folder.path()},
                                 small_corpus(), events);
  EXPECT_EQ(again.kind, TrainOutcome::Kind::kAlreadyFinished);
  EXPECT_THAT(events.notes.back(), HasSubstr("is finished already (12 steps): nothing to do"));
  EXPECT_EQ(contents_of(folder.path()), before);
  for (const std::string& name : folder.files())
    EXPECT_EQ(fs::last_write_time(folder / name), times[name]) << name;
}

TEST(Train, WithOtherSettingsOrDataTheFolderIsRefusedAndKept) {
  const TemporaryFolder folder;
  train(folder / "finished", small_recipe());
  train_until_cut(folder / "cut", small_recipe({"train.checkpoint_every=3"}), 5);
  for (const char* name : {"finished", "cut"}) {
    const auto before = contents_of(folder / name);
    EXPECT_THAT(error_of([&] { train(folder / name, small_recipe({"train.learning_rate=0.02"})); }),
                AllOf(HasSubstr("train.learning_rate is not the same"), HasSubstr("--restart")));
    const Corpus other = Corpus::from_documents(small_documents(8, 2), {.validation_share = 0.2});
    EXPECT_THAT(error_of([&] { train(folder / name, small_recipe(), other); }),
                HasSubstr("the data is not the same"));
    EXPECT_EQ(contents_of(folder / name), before);
  }
}

TEST(Train, RestartThrowsAwayWhatIsThere) {
  const TemporaryFolder folder;
  train(folder / "a", small_recipe());
  train(folder / "b", small_recipe({"seed=7"}));
  folder.write("b/notes.txt", "mine");
  Recorder events;
  train_model({.recipe = small_recipe(), .out = folder / "b", .restart = true}, small_corpus(), events);
  EXPECT_EQ(read_file(folder / "b/notes.txt"), "mine") << "what is not ours stays";
  fs::remove(folder / "b/notes.txt");
  expect_same_folder(folder / "a", folder / "b");
}

TEST(Train, AForeignModelIsNotOverwritten) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", "someone's work");
  EXPECT_THAT(error_of([&] { train(folder.path(), small_recipe()); }),
              HasSubstr("a model that was not trained here"));
  EXPECT_THAT(folder.files(), ElementsAre("model.safetensors"));
}

// --- divergence ---

TEST(Train, ALossThatJumpsStopsWithTheLastGoodCheckpoint) {
  const TemporaryFolder folder;
  const std::vector<std::string> settings = {"train.steps=30", "train.checkpoint_every=4"};
  train(folder / "whole", small_recipe(settings));
  // Any loss is more than a tenth of its mean; looked at from step 21 on.
  std::vector<std::string> strict = settings;
  strict.push_back("train.spike_factor=0.1");
  Recorder events;
  EXPECT_THROW(
      {
        try {
          train_model({.recipe = small_recipe(strict), .out = folder / "out"}, small_corpus(), events);
        } catch (const Diverged& e) {
          EXPECT_THAT(e.what(), AllOf(HasSubstr("diverged at step 21"), HasSubstr("train.learning_rate")));
          throw;
        }
      },
      Diverged);
  EXPECT_FALSE(fs::exists(folder / "out/model.safetensors"));
  Json record = Json::parse(read_file(folder / "out/checkpoint/training.json"));
  EXPECT_EQ(record["progress"]["step"], 20);
  EXPECT_NO_THROW(load_decoder(folder / "out/checkpoint"));
  train(folder / "out", small_recipe(settings));
  expect_same_folder(folder / "out", folder / "whole");
}

// --- what can't work is found before the training ---

TEST(Train, AnOutputThatCannotBeWrittenIsFoundBeforeAnyWork) {
  const TemporaryFolder folder;
  folder.write("file", "x");
  Recorder events;
  for (const char* out : {"file", "file/below"})
    EXPECT_THAT(error_of([&] {
                  train_model({.recipe = small_recipe(), .out = folder / out}, small_corpus(), events);
                }),
                HasSubstr("file"));
  {
    const FileSizeLimit limit(50'000);
    EXPECT_THAT(error_of([&] {
                  train_model({.recipe = small_recipe(), .out = folder / "new"}, small_corpus(), events);
                }),
                AllOf(HasSubstr("will be written to"), HasSubstr("ulimit -f")));
  }
  EXPECT_THAT(events.rows, IsEmpty());
  EXPECT_THAT(folder.files(), ElementsAre("file")) << "the folder that was made is gone again";
}

// --- damaged and hostile folders ---

/// A folder with a checkpoint after step 6, one file of which is replaced; the error of going on from it.
std::string refusal(const std::string& file, const std::function<std::string(std::string)>& change) {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe({"train.checkpoint_every=3"});
  train_until_cut(folder.path(), recipe, 8);
  const fs::path path = folder / ("checkpoint/" + file);
  folder.write("checkpoint/" + file, change(read_file(path)));
  const auto before = contents_of(folder.path());
  const std::string message = error_of([&] { train(folder.path(), recipe); });
  EXPECT_THAT(message, HasSubstr((folder / "checkpoint").string()));
  auto after = contents_of(folder.path());
  after["metrics.jsonl"] = before.at("metrics.jsonl");
  std::erase_if(after, [](const auto& f) { return f.first.starts_with("cache/"); });
  auto expected = before;
  std::erase_if(expected, [](const auto& f) { return f.first.starts_with("cache/"); });
  EXPECT_EQ(after, expected);
  return message;
}

std::string with(const std::string& text, const std::string& place, const Json& value) {
  Json json = Json::parse(text);
  json[Json::json_pointer(place)] = value;
  return json.dump();
}

TEST(TrainRefuses, CheckpointsThatAreCutOff) {
  for (const char* file : {"training.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json"}) {
    refusal(file, [](const std::string& whole) { return whole.substr(0, whole.size() / 2); });
    refusal(file, [](const std::string&) { return ""; });
  }
}

TEST(TrainRefuses, ProgressThatIsNone) {
  const auto changed = [](const std::string& place, const Json& value) {
    return refusal("training.json", [&](const std::string& text) { return with(text, place, value); });
  };
  EXPECT_THAT(changed("/progress/step", -1), HasSubstr("step -1 of 12"));
  EXPECT_THAT(changed("/progress/step", 13), HasSubstr("step 13 of 12"));
  EXPECT_THAT(changed("/progress/step", 6.5), HasSubstr("no whole number"));
  EXPECT_THAT(changed("/progress/position", 1'000'000), HasSubstr("1000000"));
  EXPECT_THAT(changed("/progress/position", -1), HasSubstr("-1"));
  EXPECT_THAT(changed("/progress/epoch", -1), HasSubstr("-1"));
  EXPECT_THAT(changed("/progress/random", Json::array()), HasSubstr("random state"));
  EXPECT_THAT(changed("/progress/random", "x"), HasSubstr("is not a training's state"));
  EXPECT_THAT(changed("/progress/mean_loss", nullptr), HasSubstr("is not a training's state"));
  changed("/progress", Json::object());
  changed("/progress", 1);
}

TEST(TrainRefuses, RecordsThatAreNone) {
  const auto text = [](const std::string& content) {
    return refusal("training.json", [&](const std::string&) { return content; });
  };
  for (const char* content : {"{}", "[]", "1", "null", R"({"settings":1,"data":"x","progress":{}})",
                              R"({"settings":{},"data":1,"progress":{}})"})
    text(content);
}

TEST(TrainRefuses, MomentsThatDoNotFitTheModel) {
  EXPECT_THAT(refusal("optimizer.safetensors",
                      [](const std::string&) {
                        const TemporaryFolder other;
                        write_weights(other / "f", {{.name = "x", .tensor = at::zeros({2})}});
                        return read_file(other / "f");
                      }),
              HasSubstr("first_moment is missing"));
}

TEST(Train, GarbageInTheMetricsIsDroppedFromWhereItBegins) {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe({"train.checkpoint_every=3"});
  train(folder / "whole", recipe);
  for (const char* garbage :
       {"not json\n", "{\"step\":\"x\"}\n", "[]\n", "{}\n", "{\"step\":1e9}\n", "{\"step\":4,\"lo"}) {
    fs::remove_all(folder / "cut");
    train_until_cut(folder / "cut", recipe, 4);
    const auto metrics = folder / "cut/metrics.jsonl";
    write_file(metrics, read_file(metrics) + garbage);
    train(folder / "cut", recipe);
    expect_same_folder(folder / "cut", folder / "whole");
  }
}

TEST(Train, ReportsHowHeadsAreChosenAndWarnsOfChoicesThatLookAhead) {
  const TemporaryFolder folder;
  Recorder events;
  const Recipe recipe =
      small_recipe({"model.attention=selective", "model.qk_norm=none", "attention.top_k=1",
                    "attention.data_selection.share=0.5", "attention.balance.switch.weight=0.01"});
  train_model({.recipe = recipe, .out = folder / "out"}, small_corpus(), events);
  const OrderedJson& heads = events.rows.front()["attention"];
  EXPECT_EQ(heads["experts_per_token"].get<double>(), 2) << "four heads that each serve half of the tokens";
  EXPECT_EQ(heads["load_imbalance"].get<double>(), 0);
  EXPECT_TRUE(heads["balance"].contains("switch"));
  EXPECT_THAT(events.warnings,
              testing::Contains(HasSubstr("[data_selection] chooses tokens by comparing a whole sequence")));
}

TEST(Train, WarnsOfABalanceScopeThatFallsBack) {
  TemporaryFolder folder;
  Recorder events;
  train_model(
      {.recipe = small_recipe({"balance.global_batch.buffer=false", "train.steps=1"}), .out = folder / "out"},
      small_corpus(), events);
  EXPECT_THAT(events.warnings,
              testing::Contains(HasSubstr("[global_batch] scope = \"global_batch\" with buffer = false")));
}

}  // namespace
}  // namespace gatewright

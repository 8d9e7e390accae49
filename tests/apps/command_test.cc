// The command itself: verbs, help, wrong use, what it links.
#include "command.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "gatewright/base/json.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

TEST(Command, WithoutAVerbSaysWhatThereIsAndThatThisIsWrongUse) {
  const CommandResult r = run({});
  EXPECT_EQ(r.code, 2);
  for (const command::Verb& verb : command::verbs()) EXPECT_THAT(r.out, HasSubstr(verb.name));
}

TEST(Command, HelpListsEveryVerbWithItsSummary) {
  for (const char* flag : {"--help", "-h"}) {
    const CommandResult r = run({flag});
    EXPECT_EQ(r.code, 0);
    EXPECT_THAT(r.err, IsEmpty());
    for (const command::Verb& verb : command::verbs())
      EXPECT_THAT(r.out, AllOf(HasSubstr("  " + verb.name), HasSubstr(verb.summary.substr(0, 20))));
  }
}

TEST(Command, EveryVerbHasHelpWithExamples) {
  for (const command::Verb& verb : command::verbs()) {
    SCOPED_TRACE(verb.name);
    const CommandResult r = run({verb.name, "--help"});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.err, IsEmpty());
    EXPECT_THAT(r.out, AllOf(HasSubstr(verb.summary), HasSubstr("Examples:\n")));
    EXPECT_THAT(r.out, HasSubstr("gatewright " + verb.name)) << "an example uses the verb";
  }
}

TEST(Command, EveryVerbOfTokenizerHasAnExample) {
  for (const char* verb : {"train", "encode", "decode", "show"}) {
    const CommandResult r = run({"tokenizer", verb, "--help"});
    EXPECT_EQ(r.code, 0);
    EXPECT_THAT(r.out, HasSubstr(std::string("gatewright tokenizer ") + verb));
  }
}

TEST(Command, TellsItsVersion) {
  const CommandResult r = run({"--version"});
  EXPECT_EQ(r.code, 0);
  EXPECT_TRUE(r.out.starts_with("gatewright 0.")) << r.out;
}

/// Wrong use: exit code 2, nothing on standard output, and these words on standard error.
void expect_wrong_use(const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
  const CommandResult r = run(arguments);
  EXPECT_EQ(r.code, 2) << r.err;
  EXPECT_THAT(r.out, IsEmpty());
  EXPECT_THAT(r.err, StartsWith("gatewright: "));
  for (const std::string& word : words) EXPECT_THAT(r.err, HasSubstr(word));
}

TEST(WrongUse, IsAnsweredWithTheNearestVerb) {
  expect_wrong_use({"trian"}, {"there is no verb 'trian'", "did you mean 'train'?"});
  expect_wrong_use({"Inspect"}, {"did you mean 'inspect'?"});
  expect_wrong_use({"qqqqqqqqqqqq"}, {"there is no verb", "--help"});
  expect_wrong_use({"tokenizer", "trian"}, {"tokenizer"});
  expect_wrong_use({"tokenizer"}, {"tokenizer"});
}

TEST(WrongUse, IsAnsweredWithTheNearestOption) {
  expect_wrong_use({"list", "--jsn"},
                   {"there is no option --jsn", "did you mean '--json'?", "gatewright list --help"});
  expect_wrong_use({"train", "tiny", "--dta", "x"}, {"did you mean '--data'?"});
  expect_wrong_use({"--hlep"}, {"--hlep"});
}

TEST(WrongUse, IsAnsweredWithTheNearestName) {
  expect_wrong_use({"explain", "top_q"}, {"there is no 'top_q'", "did you mean 'top_"});
  expect_wrong_use({"explain", "selector:topk"}, {"did you mean 'top_k'?"});
  expect_wrong_use({"explain", "selectr:top_k"}, {"there is no kind 'selectr'", "did you mean 'selector"});
  expect_wrong_use({"recipe", "tinny"}, {"there is no recipe 'tinny'", "did you mean 'tiny'?"});
  expect_wrong_use({"list", "scorer_"}, {"scorers"});
}

TEST(WrongUse, MissingAndSuperfluousArgumentsAreNamed) {
  expect_wrong_use({"explain"}, {"NAME"});
  expect_wrong_use({"train", "tiny"}, {"--out"});
  expect_wrong_use({"tokenizer", "train", "--out", "x"}, {"FILES"});
  expect_wrong_use({"tokenizer", "encode"}, {"--tokenizer"});
  expect_wrong_use({"recipe", "tiny", "more"}, {"'more' was not expected"});
  expect_wrong_use({"tokenizer", "train", "--vocab-size", "12", "--out", "x", "y"}, {"--vocab-size"});
}

// --- what is listed ---

TEST(List, AsJsonNamesEveryPieceWithItsSummaryAndSource) {
  const CommandResult r = run({"list", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const Json json = Json::parse(r.out);
  const std::map<std::string, std::vector<std::string>> expected = {
      {"scorers", {"linear", "cosine", "mlp", "hash", "random"}},
      {"selectors",
       {"top_k", "top_p", "min_p", "threshold", "relu", "expert_choice", "group_limited_top_k", "random",
        "all"}},
      {"balance", {"switch", "z_loss", "importance", "entropy", "loss_free_bias"}},
      {"experts", {"swiglu", "gelu", "relu"}},
      {"schedules", {"constant", "cosine", "linear", "wsd", "inverse_sqrt"}},
      {"objectives", {"next_token", "consistency", "ul2"}},
      {"optimizers", {"adamw", "adafactor"}},
      {"models", {"tiny", "olmoe-1b-7b"}},
      {"decorators", {"capacity", "omit", "force", "logit_bias", "jitter", "noise"}}};
  for (const auto& [kind, names] : expected) {
    for (const std::string& name : names) {
      const auto entry =
          std::ranges::find_if(json.at(kind), [&](const Json& e) { return e.at("name") == name; });
      ASSERT_NE(entry, json[kind].end()) << kind << " " << name;
      EXPECT_FALSE(entry->at("summary").get<std::string>().empty());
      EXPECT_TRUE(entry->at("source").is_string());
    }
  }
}

TEST(Explain, TellsAboutEverythingThatIsListed) {
  const Json json = Json::parse(run({"list", "--json"}).out);
  for (const auto& [kind, entries] : json.items()) {
    for (const Json& entry : entries) {
      const std::string name = entry.at("name");
      const CommandResult r = run({"explain", kind + ":" + name});
      EXPECT_EQ(r.code, 0) << kind << ":" << name << " " << r.err;
      EXPECT_THAT(r.out, HasSubstr(name));
    }
  }
}

TEST(Recipe, IsListedAndPrintedAsItStandsInItsFile) {
  const CommandResult list = run({"recipe"});
  EXPECT_EQ(list.code, 0);
  EXPECT_THAT(list.out, AllOf(HasSubstr("tiny "), HasSubstr("tiny-top-p")));
  for (const char* name : {"tiny", "tiny-top-p"})
    EXPECT_EQ(run({"recipe", name}).out,
              read_file(GATEWRIGHT_SOURCE_DIR "/recipes/" + std::string(name) + ".toml"));
}

// --- how it behaves when it is not a person who looks ---

TEST(Command, HasNoColourWhenNobodyLooks) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"list"}, {"explain", "top_k"}, {"recipe"}, {"--help"}, {"trian"}}) {
    const CommandResult r = run(arguments);
    EXPECT_THAT(r.out + r.err, Not(HasSubstr("\x1b"))) << arguments[0];
  }
}

TEST(Command, AnOutputThatIsFullIsAnError) {
  const CommandResult r = run({"list"}, {.output = "/dev/full"});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.err, HasSubstr("standard output can't be written"));
}

// --- what it links ---

std::string loaded_libraries(const std::string& program) {
  return run({}, {.program = program, .environment = {"LD_TRACE_LOADED_OBJECTS=1"}}).out;
}

TEST(Program, DoesNotLinkLibTorchAndItsNeighbourDoes) {
  EXPECT_THAT(loaded_libraries(GATEWRIGHT_PROGRAM),
              AllOf(HasSubstr("libc.so"), Not(HasSubstr("libtorch")), Not(HasSubstr("libc10"))));
  EXPECT_THAT(loaded_libraries(GATEWRIGHT_TENSOR_PROGRAM), HasSubstr("libtorch"));
}

TEST(Program, StartsWithinFiftyMillisecondsOfWork) {
  double least = 1;
  for (int i = 0; i < 10; ++i) least = std::min(least, run({"--version"}).cpu_seconds);
#ifdef __SANITIZE_ADDRESS__
  constexpr double kLimit = 0.25;  // AddressSanitizer prepares its own memory first
#else
  constexpr double kLimit = 0.05;
#endif
  EXPECT_LT(least, kLimit);
}

TEST(Program, SaysWhatIsMissingWhenItsNeighbourIs) {
  const TemporaryFolder folder;
  const auto alone = folder / "gatewright";
  std::filesystem::copy_file(GATEWRIGHT_PROGRAM, alone);
  const CommandResult r = run({"train", "tiny", "--out", "x"}, {.program = alone.string()});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.err, AllOf(HasSubstr("gatewright-tensor can't be started"), HasSubstr("No such file")));
  EXPECT_EQ(run({"list"}, {.program = alone.string()}).code, 0) << "the other verbs work without it";
}

}  // namespace
}  // namespace gatewright

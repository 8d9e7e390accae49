// The verb tokenizer, from text to ids and back.
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TokenizerCommand : public testing::Test {
 protected:
  TokenizerCommand() {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the gate opens at dawn " + std::to_string(i % 7) + "\n";
    folder_.write("text.txt", text);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  CommandResult train(const std::string& size = "300") const {
    return run(
        {"tokenizer", "train", "--vocab-size", size, "--out", path("tokenizer.json"), path("text.txt")});
  }
  TemporaryFolder folder_;
};

TEST_F(TokenizerCommand, LearnsFromAFileAndFromStandardInputTheSame) {
  ASSERT_EQ(train().code, 0);
  const std::string text = read_file(path("text.txt"));
  const CommandResult r =
      run({"tokenizer", "train", "--vocab-size", "300", "--out", path("other.json"), "-"}, {.input = text});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(read_file(path("other.json")), read_file(path("tokenizer.json")));
  const CommandResult printed =
      run({"tokenizer", "train", "--vocab-size", "300", "--out", "-", path("text.txt")});
  EXPECT_EQ(printed.out, read_file(path("tokenizer.json")));
  EXPECT_EQ(run({"tokenizer", "train", "--out", "-", "--json", path("text.txt")}).code, 2);
}

TEST_F(TokenizerCommand, PrintsItsResultsAsJson) {
  const CommandResult trained = run({"tokenizer", "train", "--vocab-size", "100000", "--json", "--out",
                                     path("tokenizer.json"), path("text.txt")});
  const Json result = Json::parse(trained.out);
  EXPECT_EQ(result.at("bytes"), read_file(path("text.txt")).size());
  EXPECT_EQ(result.at("ran_out"), true);
  const auto show = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"tokenizer", "show", "--json", "--tokenizer", path("tokenizer.json")});
    return Json::parse(run(more).out);
  };
  EXPECT_EQ(show({}).at("vocab_size"), result.at("tokens"));
  EXPECT_EQ(show({}).at("longest").size(), 20u);
  std::string text;
  const Json shown = show({"the gate"});
  for (const Json& token : shown.at("tokens")) text += token.at("token").get<std::string>();
  EXPECT_EQ(text, "the gate");
  EXPECT_EQ(show({"\xC3\xA9"}).at("tokens").at(0).at("token"), "\\xc3") << "half a character by itself";
}

TEST_F(TokenizerCommand, EncodesAndDecodesAnyBytes) {
  ASSERT_EQ(train().code, 0);
  std::string bytes = "the gate\n";
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  const CommandResult encoded =
      run({"tokenizer", "encode", "--tokenizer", path("tokenizer.json"), "--json", "-"}, {.input = bytes});
  ASSERT_EQ(encoded.code, 0) << encoded.err;
  const Json ids = Json::parse(encoded.out).at("ids");
  EXPECT_LT(ids.size(), bytes.size()) << "merges were used";
  EXPECT_EQ(run({"tokenizer", "decode", "--tokenizer", path("tokenizer.json")}, {.input = encoded.out}).out,
            bytes);
  folder_.write("bytes", bytes);
  EXPECT_EQ(run({"tokenizer", "encode", "--tokenizer", path("tokenizer.json"), "--json", path("bytes")}).out,
            encoded.out);
  const CommandResult plain =
      run({"tokenizer", "encode", "--tokenizer", path("tokenizer.json")}, {.input = bytes});
  EXPECT_EQ(std::count(plain.out.begin(), plain.out.end(), ' '), static_cast<int64_t>(ids.size()) - 1);
}

TEST_F(TokenizerCommand, WritesAConversationAsTheChatTemplateSays) {
  ASSERT_EQ(train().code, 0);
  const auto render = [&](const std::string& json) {
    return run({"tokenizer", "render", "--tokenizer", folder_.path().string(), "-"}, {.input = json});
  };
  const std::string hello = R"([{"role": "user", "content": "hello"}])";
  EXPECT_THAT(render(hello).err, HasSubstr("has no chat template"));
  folder_.write("chat_template.jinja",
                "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
                "{% if add_generation_prompt %}<assistant>{% endif %}{{ mood }}");
  EXPECT_EQ(render(hello).out, "<user>hello<assistant>");
  EXPECT_EQ(render(R"({"messages": )" + hello + R"(, "add_generation_prompt": false, "mood": "calm"})").out,
            "<user>hellocalm");
  EXPECT_THAT(render("{}").err, HasSubstr("a list of messages was expected"));
  EXPECT_THAT(render("[{").err, HasSubstr("standard input"));
}

TEST_F(TokenizerCommand, WhatAMessageSaysIsNoControlToken) {
  ASSERT_EQ(train().code, 0);
  folder_.write("chat_template.jinja", "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}");
  const auto ids = [&](const std::string& content, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"tokenizer", "render", "--json", "--tokenizer",
                                      folder_.path().string()};
    words.insert(words.end(), more.begin(), more.end());
    const CommandResult r = run(words, {.input = Json({{{"role", "user"}, {"content", content}}}).dump()});
    EXPECT_EQ(r.code, 0) << r.err;
    const Json json = Json::parse(r.out);
    EXPECT_EQ(json.at("text"), content + "<|endoftext|>");
    return json.at("ids").get<std::vector<int32_t>>();
  };
  const auto encoded = [&](const std::string& text, const std::string& option = "--json") {
    return Json::parse(
               run({"tokenizer", "encode", "--tokenizer", path("tokenizer.json"), "--json", option, "-"},
                   {.input = text})
                   .out)
        .at("ids")
        .get<std::vector<int32_t>>();
  };
  const int32_t end = encoded("<|endoftext|>", "--parse-special").at(0);
  std::vector<int32_t> expected = encoded("gate <|endoftext|> gate");
  EXPECT_GT(expected.size(), 10u) << "the name is text";
  expected.push_back(end);
  EXPECT_EQ(ids("gate <|endoftext|> gate"), expected);
  EXPECT_EQ(ids("gate <|endoftext|> gate", {"--parse-special"}),
            encoded("gate <|endoftext|> gate<|endoftext|>", "--parse-special"));
  EXPECT_EQ(ids("the gate"), encoded("the gate<|endoftext|>", "--parse-special"));
}

TEST_F(TokenizerCommand, BenchTellsHowFastItEncodes) {
  ASSERT_EQ(train().code, 0);
  const auto bench = [&](const std::string& text) {
    return run({"tokenizer", "bench", "--tokenizer", path("tokenizer.json"), "--rounds", "3", "--json", "-"},
               {.input = text});
  };
  const Json json = Json::parse(bench("the gate the gate").out);
  EXPECT_EQ(json.at("bytes"), 17);
  EXPECT_EQ(json.at("tokens"),
            Json::parse(run({"tokenizer", "encode", "--tokenizer", path("tokenizer.json"), "--json", "-"},
                            {.input = "the gate the gate"})
                            .out)
                .at("ids")
                .size());
  EXPECT_LE(json.at("least"), json.at("megabytes_per_second"));
  EXPECT_LE(json.at("megabytes_per_second"), json.at("most"));
  EXPECT_THAT(bench("").err, HasSubstr("standard input is empty"));
}

TEST_F(TokenizerCommand, StopsWithAWarningWhenThereIsNothingMoreToMerge) {
  const CommandResult r = train("100000");
  EXPECT_EQ(r.code, 0);
  EXPECT_THAT(r.err, HasSubstr("warning: the text has no more pairs to merge"));
}

TEST_F(TokenizerCommand, BadInputIsAnErrorThatNamesIt) {
  ASSERT_EQ(train().code, 0);
  const std::string tokenizer = path("tokenizer.json");
  for (const char* ids :
       {"", "{", "{\"ids\": 3}", "[1, \"a\"]", "[-1]", "[1.5]", "[999999999999]", "[300000]"}) {
    const CommandResult r = run({"tokenizer", "decode", "--tokenizer", tokenizer}, {.input = ids});
    EXPECT_EQ(r.code, 1) << ids;
    EXPECT_THAT(r.out, IsEmpty());
    EXPECT_THAT(r.err, HasSubstr("gatewright: "));
  }
  const CommandResult missing = run({"tokenizer", "show", "--tokenizer", path("none.json")});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("none.json"));
}

TEST_F(TokenizerCommand, AnOutputThatCannotBeWrittenIsFoundFirstAndLeavesWhatWasThere) {
  ASSERT_EQ(train().code, 0);
  const std::string before = read_file(path("tokenizer.json"));
  const CommandResult limited =
      run({"tokenizer", "train", "--vocab-size", "300", "--out", path("tokenizer.json"), path("text.txt")},
          {.file_size_limit = 1000});
  EXPECT_EQ(limited.code, 1);
  EXPECT_THAT(limited.err, HasSubstr("ulimit -f"));
  EXPECT_EQ(read_file(path("tokenizer.json")), before);
  const CommandResult below =
      run({"tokenizer", "train", "--out", path("text.txt/tokenizer.json"), path("text.txt")});
  EXPECT_EQ(below.code, 1);
  EXPECT_THAT(below.err, HasSubstr("text.txt"));
  const CommandResult folder =
      run({"tokenizer", "train", "--out", folder_.path().string(), path("text.txt")});
  EXPECT_EQ(folder.code, 2);
  EXPECT_THAT(folder_.files(), ElementsAre("text.txt", "tokenizer.json"));
}

}  // namespace
}  // namespace gatewright

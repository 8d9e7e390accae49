// gatewright chat, with the small model that tests of models share.
#include <fstream>

#include "gatewright/base/json.h"
#include "tests/apps/trained_model.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

namespace fs = std::filesystem;

class ChatCommand : public TrainedModel {};

/// A copy of the trained model with a chat template of its own.
std::string with_template(const std::string& model, const std::string& chat_template, const std::string& to) {
  fs::create_directories(to);
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    fs::copy_file(model + "/" + file, to + "/" + file, fs::copy_options::overwrite_existing);
  std::ofstream(to + "/tokenizer_config.json") << Json({{"chat_template", chat_template}});
  return to;
}

constexpr const char* kTemplate =
    "{% for m in messages %}{% if m.role == 'tool' or m.content == 'no' %}{{ raise_exception('not that') "
    "}}{% endif %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

TEST_F(ChatCommand, AnswersEachLineKnowingWhatWasSaid) {
  const std::string model = with_template(path("model"), kTemplate, path("chat"));
  const auto chat = [&](const std::string& input, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"chat", model, "--tokens", "6", "--temperature", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult r = run(arguments, {.input = input});
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  };
  const std::string both = chat("the gate\nint x\n"), first = chat("the gate\n");
  EXPECT_THAT(both, StartsWith(first));
  EXPECT_EQ(chat("the gate\n/clear\nint x"), first + chat("int x"));
  EXPECT_EQ(chat("/system dawn\nthe gate"), chat("the gate", {"--system", "dawn"}));
  EXPECT_EQ(chat("the gate\n/quit\nint x"), first);
  EXPECT_THAT(chat("/help\n"), AllOf(HasSubstr("/clear"), HasSubstr("/system TEXT")));
  EXPECT_EQ(chat("\n\r\n"), "");
}

TEST_F(ChatCommand, ShowsHowFarALongConversationIsRead) {
  const std::string model = with_template(path("model"), kTemplate, path("chat"));
  const std::vector<std::string> arguments = {"chat", model, "--tokens", "2", "--temperature", "0"};
  const std::string said = long_text() + "\nthe gate\n";
  const CommandResult silent = run(arguments, {.input = said});
  EXPECT_THAT(silent.err, IsEmpty());
  const CommandOptions person = {.input = said, .environment = {"TERM=xterm"}, .error_terminal = true};
  const CommandResult watched = run(arguments, person);
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_EQ(watched.out, silent.out) << "nothing of it is part of the answer";
  EXPECT_THAT(watched.err, AllOf(HasSubstr("reading 2.05 k/3.0"), testing::EndsWith("\r\x1b[K")));
  const size_t last = watched.err.rfind("reading ");
  EXPECT_THAT(watched.err.substr(last), StartsWith("reading 3.0")) << "the second answer has little to read";
  const CommandResult brief =
      run({"chat", model, "--tokens", "2", "--temperature", "0"},
          {.input = "the gate\n", .environment = {"TERM=xterm"}, .error_terminal = true});
  EXPECT_THAT(brief.err, Not(HasSubstr("reading"))) << "a short one is read at once";
}

TEST_F(ChatCommand, TakesNamesOfControlTokensForText) {
  const std::string model =
      with_template(path("model"), "{% for m in messages %}{{ m.content }}{% endfor %}", path("said"));
  const auto chat = [&](const std::string& input, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"chat", model, "--tokens", "16", "--temperature", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult r = run(arguments, {.input = input});
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  };
  const std::string forged =
      "the gate<|endoftext|>\n";  // the model goes on after a letter or after that token
  EXPECT_NE(chat(forged), chat(forged, {"--parse-special"}));
  EXPECT_EQ(chat("the gate\n"), chat("the gate\n", {"--parse-special"}));
}

TEST_F(ChatCommand, SaysWhatItCannotDo) {
  const std::string model = with_template(path("model"), kTemplate, path("chat"));
  const CommandResult refused = run({"chat", model}, {.input = "no\n"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("refuses these messages: not that"));
  EXPECT_THAT(run({"chat", model}, {.input = "/cler\n"}).err,
              HasSubstr("there is no command /cler, did you mean '/clear'?"));
  const CommandResult without = run({"chat", path("model")});
  EXPECT_EQ(without.code, 1);
  EXPECT_THAT(without.err, HasSubstr("has no chat template"));
  EXPECT_EQ(run({"chat", model, "--min-p", "1.5"}).code, 2);
}

}  // namespace
}  // namespace gatewright

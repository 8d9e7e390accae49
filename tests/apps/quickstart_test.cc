// The main job, on a small text.
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace fs = std::filesystem;

/// Three domains of a few words each, so that they can be learned in seconds.
void write_text(const TemporaryFolder& folder) {
  for (int i = 0; i < 30; ++i) {
    std::string prose, code, numbers;
    for (int k = 0; k < 60; ++k) {
      prose += "the gate " + std::to_string(i * k % 13) + " opens slowly at dawn. ";
      code += "int x" + std::to_string(i) + " = y + " + std::to_string(k) + ";\n";
      numbers += std::to_string(i + k) + ", " + std::to_string(i * k) + "; ";
    }
    folder.write("text/prose/" + std::to_string(i) + ".txt", prose);
    folder.write("text/code/" + std::to_string(i) + ".c", code);
    folder.write("text/numbers/" + std::to_string(i) + ".txt", numbers);
  }
}

std::vector<std::string> command(const TemporaryFolder& folder, const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {
      "quickstart", "--data", (folder / "text").string(), "--out", (folder / "out").string(),
      "--minutes",  "0.05"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(Quickstart, ComparesThreeModelsOfEqualActiveParametersAndReusesWhatIsDone) {
  const TemporaryFolder folder;
  write_text(folder);
  const CommandResult first = run(command(folder));
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("bits per byte"));
  EXPECT_THAT(first.out, HasSubstr("layer 0: share of each domain's visits"));
  for (const char* domain : {"code, given:", "numbers, given:", "prose, given:"})
    EXPECT_THAT(first.out, HasSubstr(domain));
  const std::string summary = read_file(folder / "out/summary.json");
  const Json json = Json::parse(summary);
  EXPECT_THAT(json["domains"].get<std::vector<std::string>>(), ElementsAre("code", "numbers", "prose"));
  ASSERT_EQ(json["runs"].size(), 3U);
  const double active = json["runs"][0]["active_parameters"];
  for (const Json& run : json["runs"]) {
    EXPECT_NEAR(run["active_parameters"].get<double>(), active, 0.1 * active) << run["name"];
    EXPECT_GE(run["total_parameters"].get<double>(), run["active_parameters"].get<double>());
    EXPECT_LT(run["validation_bits_per_byte"].get<double>(), 6.0);
    EXPECT_GT(run["tokens_per_second"].get<double>(), 0.0);
  }
  EXPECT_NEAR(json["runs"][2]["experts_per_token"].get<double>(), 2.0, 0.2);

  const CommandResult second = run(command(folder, {"--json"}));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("finished already"));
  EXPECT_THAT(second.err, Not(HasSubstr("step 1 ")));
  EXPECT_EQ(second.out, summary);
}

TEST(Quickstart, KeepsAFolderThatIsNotOfThisComparison) {
  const TemporaryFolder folder;
  write_text(folder);
  folder.write("out/letter.txt", "dear");
  const CommandResult foreign = run(command(folder));
  EXPECT_EQ(foreign.code, 1);
  EXPECT_THAT(foreign.err, HasSubstr("holds no quickstart"));
  EXPECT_EQ(read_file(folder / "out/letter.txt"), "dear");

  fs::remove(folder / "out/letter.txt");
  folder.write("out/plan.json", R"({"minutes": 5.0, "data": "other", "steps": 7, "batch_size": 8})");
  const CommandResult other = run(command(folder));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("holds a comparison on other text"));
  folder.write("out/plan.json", "{}");
  EXPECT_THAT(run(command(folder)).err, HasSubstr("plan.json is damaged"));
}

TEST(Quickstart, SaysWhatIsWrongWithTheText) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "text");
  const CommandResult empty = run(command(folder));
  EXPECT_EQ(empty.code, 1);
  EXPECT_THAT(empty.err, HasSubstr("text"));
  folder.write("text/data.bin", std::string(1000, '\0'));
  const CommandResult binary = run(command(folder));
  EXPECT_EQ(binary.code, 1);
  EXPECT_THAT(binary.err, HasSubstr("binary"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

}  // namespace
}  // namespace gatewright

// The verbs convert and upcycle, on a tiny model with random weights that is made here.
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "gatewright/models/families/convert.h"
#include "tests/apps/run_command.h"
#include "tests/models/families/random_model.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

class ConvertCommand : public testing::Test {
 protected:
  ConvertCommand() { convert_to_gguf(RandomModel(tiny_architecture("llama")), folder_ / "in.gguf"); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  TemporaryFolder folder_;
};

/// The report of a dry run, after which only in.gguf is there, and that of the same command without
/// --dry-run.
std::pair<Json, Json> both_reports(const TemporaryFolder& folder, std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const CommandResult written_later = run([&] {
    std::vector<std::string> dry = arguments;
    dry.push_back("--dry-run");
    return dry;
  }());
  EXPECT_EQ(written_later.code, 0) << written_later.err;
  EXPECT_THAT(folder.files(), ElementsAre("in.gguf"));
  const CommandResult written = run(arguments);
  EXPECT_EQ(written.code, 0) << written.err;
  return {Json::parse(written_later.out), Json::parse(written.out)};
}

TEST_F(ConvertCommand, ADryRunSaysWhatWouldBeWrittenAndWritesNothing) {
  const std::vector<std::vector<std::string>> commands = {
      {"convert", path("in.gguf"), path("out.gguf"), "--type", "f16"},
      {"convert", path("in.gguf"), path("out")},
      {"upcycle", path("in.gguf"), path("out.gguf"), "--experts", "4"},
      {"upcycle", path("in.gguf"), path("out"), "--experts", "4", "--split", "neurons"}};
  for (const std::vector<std::string>& command : commands) {
    auto [dry, done] = both_reports(folder_, command);
    EXPECT_EQ(dry["dry_run"], true);
    EXPECT_EQ(done["dry_run"], false);
    uint64_t bytes = 0;
    for (const Json& file : dry.at("files")) {
      const fs::path written = fs::path(command[2]).extension() == ".gguf"
                                   ? fs::path(command[2])
                                   : fs::path(command[2]) / file.at("name").get<std::string>();
      EXPECT_EQ(file.at("bytes"), fs::file_size(written)) << written;
      bytes += fs::file_size(written);
    }
    EXPECT_EQ(dry.at("bytes"), bytes);
    dry.erase("dry_run"), done.erase("dry_run");
    EXPECT_EQ(dry, done);
    fs::remove_all(command[2]);
  }
}

TEST_F(ConvertCommand, ADryRunNamesEveryTensorWithItsTypeAndSize) {
  const Json report = Json::parse(
      run({"convert", path("in.gguf"), path("out.gguf"), "--type", "f16", "--dry-run", "--json"}).out);
  const Json& tensors = report.at("files").at(0).at("tensors");
  EXPECT_EQ(tensors.size(), report.at("tensors"));
  EXPECT_THAT(tensors,
              testing::Contains(Json(
                  {{"name", "blk.0.attn_q.weight"}, {"shape", {32, 32}}, {"type", "F16"}, {"bytes", 2048}})));
  const CommandResult text = run({"convert", path("in.gguf"), path("out"), "--dry-run"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("model.safetensors"), HasSubstr("config.json"), HasSubstr("F32"),
                              HasSubstr("nothing was written")));
  EXPECT_THAT(folder_.files(), ElementsAre("in.gguf"));
}

TEST_F(ConvertCommand, ADryRunRefusesWhatTheCommandRefuses) {
  const CommandResult r = run({"convert", path("in.gguf"), path("in.gguf"), "--dry-run"});
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.out, IsEmpty());
  EXPECT_THAT(r.err, HasSubstr("can't be written over itself"));
  EXPECT_EQ(run({"upcycle", path("in.gguf"), path("out"), "--layers", "7", "--dry-run"}).code, 1);
}

}  // namespace
}  // namespace gatewright

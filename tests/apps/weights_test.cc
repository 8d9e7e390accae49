// The verbs quantize and diff, on files of an architecture that nobody knows.
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/imatrix.h"
#include "tests/apps/run_command.h"
#include "tests/formats/gguf_maker.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class WeightsCommand : public testing::Test {
 protected:
  WeightsCommand() { folder_.write("in.gguf", model().bytes()); }
  static MadeGguf model() {
    std::string values;
    for (int i = 0; i < 3 * 4 * 64; ++i) values += raw(static_cast<float>(i % 37 - 18) / 16);
    return {
        .keys = {text_key("general.architecture", "strange"), u32_key("strange.block_count", 1)},
        .tensors = {{.name = "blk.0.attn_norm.weight", .dimensions = {64}, .data = values.substr(0, 256)},
                    {.name = "blk.0.attn_q.weight", .dimensions = {64, 4}, .data = values.substr(0, 1024)},
                    {.name = "blk.0.ffn_up_exps.weight", .dimensions = {64, 4, 3}, .data = values}}};
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  CommandResult quantize(const std::string& type, std::vector<std::string> more = {},
                         const CommandOptions& options = {}) const {
    more.insert(more.begin(), {"quantize", path("in.gguf"), path("out.gguf"), "--type", type});
    return run(more, options);
  }
  TemporaryFolder folder_;
};

TEST_F(WeightsCommand, QuantizeSaysWhatItDidAndDiffNamesWhatChanged) {
  const CommandResult r = quantize("ffn_.*_exps=q8_0,*=f32");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, AllOf(HasSubstr("f32 -> q8_0"), HasSubstr("1 tensors"), HasSubstr("f32 kept")));
  const CommandResult diff = run({"diff", path("in.gguf"), path("out.gguf")});
  EXPECT_EQ(diff.code, 1);
  EXPECT_THAT(diff.err, IsEmpty());
  EXPECT_THAT(diff.out, AllOf(HasSubstr("blk.0.ffn_up_exps.weight: F32 [3, 4, 64] -> Q8_0 [3, 4, 64]  max "),
                              HasSubstr("general.quantization_version: absent -> 2"),
                              HasSubstr("1 of 3 tensors differ"), Not(HasSubstr("attn_q"))));
  EXPECT_EQ(run({"diff", path("in.gguf"), path("in.gguf")}).code, 0);
}

TEST_F(WeightsCommand, ReportsAreJsonWhenAsked) {
  const Json report = Json::parse(quantize("q4_k", {"--json"}).out);
  EXPECT_EQ(report.at("bytes_after"), std::filesystem::file_size(path("out.gguf")));
  const Json& experts = report.at("tensors").at(2);
  EXPECT_EQ(experts.at("after"), "q5_0");
  EXPECT_EQ(experts.at("wanted"), "q4_k") << "rows of 64 are no blocks of 256";
  const CommandResult r = run({"diff", path("in.gguf"), path("out.gguf"), "--json"});
  EXPECT_EQ(r.code, 1);
  const Json diff = Json::parse(r.out);
  EXPECT_EQ(diff.at("same"), false);
  EXPECT_EQ(diff.at("tensors").size(), 2u);
  EXPECT_GT(diff.at("tensors").at(0).at("max_abs"), 0);
  EXPECT_EQ(run({"diff", path("in.gguf"), path("out.gguf"), "--tolerance", "1", "--json"}).code, 1)
      << "keys differ";
}

TEST_F(WeightsCommand, ADryRunWritesNothing) {
  const CommandResult r = quantize("q4_k", {"--dry-run"});
  EXPECT_EQ(r.code, 0);
  EXPECT_THAT(r.out, AllOf(HasSubstr("nothing was written"), HasSubstr("q5_0 instead of q4_k")));
  EXPECT_THAT(folder_.files(), ElementsAre("in.gguf"));
}

TEST_F(WeightsCommand, AnExpertWithoutCalibrationDataIsNamed) {
  ImportanceMatrix matrix;
  matrix.weights["blk.0.ffn_up_exps.weight"] = {
      .columns = 64, .matrices = 3, .squares = std::vector<float>(192, 1), .counts = {5, 0, 9}};
  write_imatrix(path("imatrix.gguf"), matrix);
  const CommandResult r = quantize("q4_0", {"--imatrix", path("imatrix.gguf")});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(
      r.out,
      AllOf(HasSubstr("its 3 experts saw 0 to 9 rows"), HasSubstr("blk.0.ffn_up_exps.weight (experts 1)"),
            HasSubstr("not in the importance matrix, so quantised without importance: blk.0.attn_q")));
}

TEST_F(WeightsCommand, AFullDiskLeavesWhatWasThere) {
  folder_.write("out.gguf", "mine");
  const CommandResult r = quantize("q8_0", {}, {.file_size_limit = 1000});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.err, HasSubstr("ulimit -f"));
  EXPECT_EQ(read_file(path("out.gguf")), "mine");
  EXPECT_THAT(folder_.files(), ElementsAre("in.gguf", "out.gguf"));
}

TEST_F(WeightsCommand, WrongUseIsAnsweredWithWhatIsAllowed) {
  const CommandResult type = quantize("q9");
  EXPECT_EQ(type.code, 2);
  EXPECT_THAT(type.err, HasSubstr("q8_0, q4_0"));
  EXPECT_EQ(run({"quantize", path("in.gguf"), path("out.gguf")}).code, 2) << "--type is needed";
  EXPECT_EQ(run({"diff", path("in.gguf")}).code, 2);
  const CommandResult source = run({"quantize", folder_.path().string(), path("out.gguf"), "--type", "q8_0"});
  EXPECT_EQ(source.code, 2);
  EXPECT_THAT(source.err, HasSubstr("gatewright convert"));
  const CommandResult missing = run({"diff", path("in.gguf"), path("absent.gguf")});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("absent.gguf"));
  folder_.write("bad.gguf", "GGUF");
  EXPECT_EQ(run({"quantize", path("bad.gguf"), path("out.gguf"), "--type", "q8_0"}).code, 1);
  EXPECT_FALSE(std::filesystem::exists(path("out.gguf")));
}

}  // namespace
}  // namespace gatewright

#include "gatewright/formats/imatrix.h"

#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/formats/gguf.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Two experts of three columns, of which the second saw nothing, and a matrix of two columns.
ImportanceMatrix example() {
  return {
      .weights = {{"blk.0.ffn_up_exps.weight",
                   {.columns = 3, .matrices = 2, .squares = {2, 4, 8, 0, 0, 0}, .counts = {4, 0}}},
                  {"blk.0.attn_q.weight", {.columns = 2, .matrices = 1, .squares = {1, 9}, .counts = {2}}}},
      .datasets = {"wiki.txt"},
      .chunk_count = 7,
      .chunk_size = 512};
}

TEST(Imatrix, ImportanceIsTheMeanSquareOfAColumnsInputs) {
  const ColumnSums sums = example().weights.at("blk.0.ffn_up_exps.weight");
  EXPECT_THAT(sums.importance(0), ElementsAre(0.5F, 1, 2));
  EXPECT_THAT(sums.importance(1), IsEmpty()) << "an expert without calibration data";
}

TEST(Imatrix, ComesBackAsItWasWritten) {
  const TemporaryFolder folder;
  write_imatrix(folder / "imatrix.gguf", example());
  const ImportanceMatrix read = read_imatrix(folder / "imatrix.gguf");
  EXPECT_THAT(read.datasets, ElementsAre("wiki.txt"));
  EXPECT_EQ(read.chunk_count, 7u);
  EXPECT_EQ(read.chunk_size, 512u);
  ASSERT_EQ(read.weights.size(), 2u);
  for (const auto& [name, sums] : example().weights) {
    const ColumnSums& other = read.weights.at(name);
    EXPECT_EQ(other.columns, sums.columns);
    EXPECT_EQ(other.matrices, sums.matrices);
    EXPECT_EQ(other.squares, sums.squares);
    EXPECT_EQ(other.counts, sums.counts);
  }
}

TEST(Imatrix, HasTheKeysAndShapesOfTheFormat) {
  const TemporaryFolder folder;
  write_imatrix(folder / "imatrix.gguf", example());
  const GgufFile file(folder / "imatrix.gguf");
  EXPECT_EQ(file.metadata().text("general.type"), "imatrix");
  EXPECT_EQ(file.metadata().find("imatrix.chunk_size")->type(), GgufType::kU32);
  EXPECT_THAT(file.tensor("blk.0.ffn_up_exps.weight.in_sum2").shape, ElementsAre(2, 3));
  EXPECT_THAT(file.tensor("blk.0.ffn_up_exps.weight.counts").shape, ElementsAre(2, 1));
}

/// A file with the sums and counts of "w" after a change.
std::string imatrix_refusal(const std::function<void(MadeGguf&)>& change) {
  const TemporaryFolder folder;
  MadeGguf made = {.keys = {text_key("general.type", "imatrix")},
                   .tensors = {{.name = "w.in_sum2", .dimensions = {2, 2}, .data = raw_floats({1, 2, 3, 4})},
                               {.name = "w.counts", .dimensions = {1, 2}, .data = raw_floats({1, 1})}}};
  change(made);
  const auto path = folder.write("imatrix.gguf", made.bytes());
  std::string message = error_of([&] { read_imatrix(path); });
  EXPECT_THAT(message, HasSubstr("imatrix.gguf"));
  return message;
}

TEST(Imatrix, RefusesWhatIsNone) {
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.keys[0] = text_key("general.type", "model"); }),
              HasSubstr("\"model\""));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.keys.clear(); }), HasSubstr("general.type"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.tensors.pop_back(); }),
              HasSubstr("\"w\" has sums but no counts"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.tensors.erase(m.tensors.begin()); }),
              HasSubstr("counts but no sums"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) {
                m.tensors[1].dimensions = {1, 1};
              }),
              HasSubstr("sums of 2 matrices but 1 counts"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) {
                m.tensors[0].data = raw_floats({1, 2, -3, 4});
              }),
              HasSubstr("negative"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) {
                m.tensors[0].data = raw_floats({1, 2, NAN, 4});
              }),
              HasSubstr("not finite"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) {
                m.tensors[1].data = raw_floats({1, INFINITY});
              }),
              HasSubstr("not finite"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.tensors[0].name = "w.other"; }), HasSubstr("w.other"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) {
                m.tensors[1].type = 1;
                m.tensors[1].data.resize(4);
              }),
              HasSubstr("F32 was expected"));
  EXPECT_THAT(imatrix_refusal([](MadeGguf& m) { m.magic = "GGML"; }), HasSubstr("is no importance matrix"));
}

}  // namespace
}  // namespace gatewright

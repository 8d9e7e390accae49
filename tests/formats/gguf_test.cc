#include "gatewright/formats/gguf.h"

#include <gmock/gmock.h>

#include <cstring>

#include "gatewright/base/file.h"
#include "tests/formats/gguf_parsing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Gguf, AHandMadeFileIsReadByTheFormatsRules) {
  const std::string file = small_gguf().bytes();
  const Gguf gguf = parse(file);
  EXPECT_THAT(gguf.metadata.keys(),
              ElementsAre("general.architecture", "strange.block_count", "tokenizer.ggml.tokens"));
  EXPECT_EQ(gguf.metadata.text("general.architecture"), "strange");
  EXPECT_EQ(gguf.metadata.integer("strange.block_count"), 1);
  EXPECT_THAT(gguf.metadata.texts("tokenizer.ggml.tokens"), ElementsAre("a", ""));
  EXPECT_THAT(gguf.order, ElementsAre("blk.0.b.weight", "blk.0.a.weight"));
  const TensorView& b = gguf.tensors.at("blk.0.b.weight");
  EXPECT_EQ(b.dtype, DataType::kF32);
  EXPECT_THAT(b.shape, ElementsAre(2, 3)) << "the format lists the fastest dimension first";
  float last;
  std::memcpy(&last, b.data.data() + 20, sizeof last);
  EXPECT_EQ(last, 5.0F);
  const TensorView& a = gguf.tensors.at("blk.0.a.weight");
  EXPECT_EQ(a.dtype, DataType::kQ8_0);
  EXPECT_THAT(a.shape, ElementsAre(2, 32));
  EXPECT_EQ(a.data.size(), 68u);
}

TEST(Gguf, Version2IsReadToo) {
  MadeGguf made = small_gguf();
  made.version = 2;
  EXPECT_EQ(parse(made.bytes()).tensors.size(), 2u);
}

TEST(Gguf, TheAlignmentOfTheFileHolds) {
  MadeGguf made = small_gguf();
  made.alignment = 128;
  made.keys.push_back(u32_key("general.alignment", 128));
  const std::string file = made.bytes();
  const Gguf gguf = parse(file);
  EXPECT_EQ(gguf.alignment, 128u);
  EXPECT_EQ(gguf.tensors.at("blk.0.a.weight").data[2], std::byte{2});
}

TEST(Gguf, EveryTypeHasItsNumberAndComesBack) {
  const std::map<uint32_t, DataType> types = {
      {0, DataType::kF32},   {1, DataType::kF16},   {2, DataType::kQ4_0},    {3, DataType::kQ4_1},
      {6, DataType::kQ5_0},  {7, DataType::kQ5_1},  {8, DataType::kQ8_0},    {10, DataType::kQ2_K},
      {11, DataType::kQ3_K}, {12, DataType::kQ4_K}, {13, DataType::kQ5_K},   {14, DataType::kQ6_K},
      {24, DataType::kI8},   {25, DataType::kI16},  {20, DataType::kIQ4_NL}, {26, DataType::kI32},
      {27, DataType::kI64},  {28, DataType::kF64},  {30, DataType::kBF16},   {39, DataType::kMXFP4}};
  for (uint32_t id = 0; id < 100; ++id) {
    const auto type = data_type_of_ggml(id);
    EXPECT_EQ(type.has_value(), types.contains(id)) << id;
    if (!type) continue;
    EXPECT_EQ(*type, types.at(id));
    EXPECT_EQ(ggml_type_id(*type), id);
  }
  EXPECT_FALSE(ggml_type_id(DataType::kBool));
}

// --- split files ---

/// Part `number` (from 0) of `count`, with one tensor of its own.
std::string part(int number, int count, int tensors) {
  MadeGguf made = small_gguf();
  made.keys.resize(number == 0 ? 2 : 0);
  made.keys.push_back(raw_key("split.no", 2, raw(static_cast<uint16_t>(number))));
  made.keys.push_back(raw_key("split.count", 2, raw(static_cast<uint16_t>(count))));
  made.keys.push_back(raw_key("split.tensors.count", 5, raw(int32_t{tensors})));
  made.tensors = {made.tensors[static_cast<size_t>(number) % 2]};
  return made.bytes();
}

TEST(GgufFile, ReadsAModelInSeveralFilesByAnyOfThem) {
  const TemporaryFolder folder;
  folder.write("m-00001-of-00002.gguf", part(0, 2, 2));
  folder.write("m-00002-of-00002.gguf", part(1, 2, 2));
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const GgufFile file(folder / name);
    EXPECT_THAT(file.order(), ElementsAre("blk.0.b.weight", "blk.0.a.weight"));
    EXPECT_THAT(file.metadata().keys(), ElementsAre("general.architecture", "strange.block_count"));
    EXPECT_EQ(file.tensor("blk.0.a.weight").data[2], std::byte{2});
    EXPECT_EQ(file.paths().size(), 2u);
    EXPECT_THAT(error_of([&] { file.tensor("absent"); }), HasSubstr("\"absent\""));
  }
}

TEST(GgufFile, AMissingPartIsNamed) {
  const TemporaryFolder folder;
  const auto path = folder.write("m-00001-of-00002.gguf", part(0, 2, 2));
  EXPECT_THAT(error_of([&] { GgufFile file(path); }), HasSubstr("m-00002-of-00002.gguf is missing"));
  const auto renamed = folder.write("renamed.gguf", part(0, 2, 2));
  EXPECT_THAT(error_of([&] { GgufFile file(renamed); }), HasSubstr("-00001-of-00002.gguf"));
}

TEST(GgufFile, PartsThatDisagreeAreRefused) {
  const TemporaryFolder folder;
  const auto path = folder.write("m-00001-of-00002.gguf", part(0, 2, 2));
  const auto with_second = [&](const std::string& second) {
    folder.write("m-00002-of-00002.gguf", second);
    return error_of([&] { GgufFile file(path); });
  };
  EXPECT_THAT(with_second(part(0, 2, 2)), HasSubstr("says that it is part 0 (from 0) of 2"));
  EXPECT_THAT(with_second(part(1, 3, 2)), HasSubstr("of 3"));
  EXPECT_THAT(with_second(part(3, 2, 2)), HasSubstr("says that it is part 3"));
  folder.write("m-00001-of-00002.gguf", part(0, 2, 5));
  EXPECT_THAT(with_second(part(1, 2, 5)), HasSubstr("have 2 tensors together, the key says 5"));
}

TEST(GgufFile, ATensorInTwoPartsIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.write("m-00001-of-00003.gguf", part(0, 3, 3));
  folder.write("m-00002-of-00003.gguf", part(1, 3, 3));
  folder.write("m-00003-of-00003.gguf", part(2, 3, 3));
  EXPECT_THAT(
      error_of([&] { GgufFile file(path); }),
      AllOf(HasSubstr("m-00003-of-00003.gguf"), HasSubstr("\"blk.0.b.weight\" is in another part, too")));
}

TEST(GgufFile, ItsMetadataOutlivesIt) {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  {
    const GgufFile file(folder.write("m.gguf", small_gguf().bytes()));
    EXPECT_EQ(file.file_bytes(), small_gguf().bytes().size());
    metadata = file.metadata();
  }
  EXPECT_EQ(metadata.text("general.architecture"), "strange");
}

TEST(GgufFile, ReleasedBytesAreReadAgain) {
  const TemporaryFolder folder;
  const std::string large(1 << 20, 'x');
  const TensorPlan plan = {.name = "t", .dtype = DataType::kI8, .shape = {1 << 20}, .data = bytes_of(large)};
  write_gguf(folder / "m.gguf", GgufMetadata(), std::vector{plan});
  const GgufFile file(folder / "m.gguf");
  file.release(file.tensor("t").data);
  file.release(bytes_of(large));
  EXPECT_TRUE(std::ranges::equal(file.tensor("t").data, bytes_of(large)));
  EXPECT_EQ(large.front(), 'x');
}

TEST(IsGguf, GoesByTheContent) {
  const TemporaryFolder folder;
  EXPECT_TRUE(is_gguf(folder.write("a.bin", small_gguf().bytes())));
  EXPECT_FALSE(is_gguf(folder.write("a.gguf", "GGML and more")));
  EXPECT_FALSE(is_gguf(folder.write("b.gguf", "GG")));
  EXPECT_FALSE(is_gguf(folder / "absent"));
}

}  // namespace
}  // namespace gatewright

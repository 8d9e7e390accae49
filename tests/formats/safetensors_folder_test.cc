#include "gatewright/formats/safetensors_folder.h"

#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kFour = "1234", kEight = "12345678";

TensorPlan tensor(const std::string& name, const std::string& data) {
  return {.name = name,
          .dtype = DataType::kU8,
          .shape = {static_cast<int64_t>(data.size())},
          .data = bytes_of(data)};
}
const std::vector<TensorPlan> kThree = {tensor("c", kFour), tensor("a", kEight), tensor("b", kFour)};

/// Two shards, one with the 4 bytes of c and one with the 12 of a and b.
void write_two(const TemporaryFolder& folder) { write_safetensors_folder(folder.path(), kThree, {}, 12); }
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

std::string folder_refusal(const TemporaryFolder& folder) {
  return error_of([&] { SafetensorsFolder opened(folder.path()); });
}

TEST(SafetensorsFolder, OneFileOrShardsGiveTheSameTensors) {
  for (const uint64_t shard_bytes : {uint64_t{1}, uint64_t{12}, uint64_t{1000}}) {
    const TemporaryFolder folder;
    write_safetensors_folder(folder.path(), kThree, {{"format", "pt"}}, shard_bytes);
    const SafetensorsFolder opened(folder.path());
    ASSERT_EQ(opened.tensors().size(), 3u);
    EXPECT_TRUE(std::ranges::equal(opened.tensor("a").data, bytes_of(kEight)));
    EXPECT_TRUE(std::ranges::equal(opened.tensor("c").data, bytes_of(kFour)));
    EXPECT_EQ(opened.metadata(), (Metadata{{"format", "pt"}}));
    EXPECT_EQ(opened.paths().size(), shard_bytes == 1 ? 3u : shard_bytes == 12 ? 2u : 1u);
    EXPECT_THAT(error_of([&] { opened.tensor("d"); }), HasSubstr("has no tensor \"d\""));
  }
}

TEST(SafetensorsFolder, ItsFilesAreKnownBeforeTheyAreWritten) {
  for (const uint64_t shard_bytes : {uint64_t{12}, uint64_t{1000}}) {
    const TemporaryFolder folder;
    write_safetensors_folder(folder.path(), kThree, {}, shard_bytes);
    std::vector<std::string> names;
    size_t tensors = 0;
    for (const FolderFile& file : safetensors_folder_files(kThree, {}, shard_bytes)) {
      EXPECT_EQ(file.bytes, std::filesystem::file_size(folder / file.name)) << file.name;
      names.push_back(file.name);
      tensors += file.tensors.size();
    }
    std::ranges::sort(names);
    EXPECT_EQ(names, folder.files());
    EXPECT_EQ(tensors, 3u);
  }
}

TEST(SafetensorsFolder, ReleasedBytesAreReadAgain) {
  const TemporaryFolder folder;
  const std::string large(1 << 20, 'x');
  write_safetensors_folder(folder.path(), std::vector{tensor("a", large), tensor("b", kFour)}, {}, 12);
  const SafetensorsFolder opened(folder.path());
  EXPECT_GT(opened.file_bytes(), uint64_t{1} << 20);
  opened.release(opened.tensor("a").data);
  EXPECT_TRUE(std::ranges::equal(opened.tensor("a").data, bytes_of(large)));
}

TEST(SafetensorsFolder, TheIndexNamesEveryTensorAndTheSizeOfAll) {
  const TemporaryFolder folder;
  write_two(folder);
  EXPECT_THAT(folder.files(), ElementsAre(kFirst, kSecond, kIndex));
  const Json index = parse_json(read_file(folder / kIndex), "index");
  EXPECT_EQ(index["metadata"]["total_size"], 16);
  EXPECT_EQ(index["weight_map"], Json({{"a", kFirst}, {"b", kSecond}, {"c", kFirst}}));
}

TEST(SafetensorsFolder, BytesMayBeMadeWhenTheyAreWritten) {
  const TemporaryFolder folder;
  TensorPlan made = tensor("t", kEight);
  made.data = {};
  made.produce = [](const ByteSink& sink) { sink(bytes_of(kFour)), sink(bytes_of(kFour)); };
  write_safetensors_folder(folder.path(), std::vector{made});
  EXPECT_TRUE(std::ranges::equal(SafetensorsFolder(folder.path()).tensor("t").data, bytes_of(kFour + kFour)));
}

TEST(SafetensorsFolder, AMissingShardIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(folder_refusal(folder), AllOf(HasSubstr("neither model.safetensors nor"), HasSubstr(kIndex)));
  write_two(folder);
  std::filesystem::remove(folder / kSecond);
  EXPECT_THAT(folder_refusal(folder), HasSubstr(std::string(kSecond) + " is missing"));
}

TEST(SafetensorsFolder, AnIndexThatLiesIsRefused) {
  const TemporaryFolder folder;
  write_two(folder);
  const auto with_map = [&](const std::string& map) {
    folder.write(kIndex, R"({"weight_map":)" + map + "}");
    return folder_refusal(folder);
  };
  EXPECT_THAT(with_map(R"({"z":"model-00001-of-00002.safetensors"})"), HasSubstr("does not hold \"z\""));
  EXPECT_THAT(with_map(R"({"a":"model-00002-of-00002.safetensors"})"), HasSubstr("does not hold \"a\""));
  for (const char* path :
       {"../secret.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\\\b", "a\\u0000b"})
    EXPECT_THAT(with_map(R"({"a":")" + std::string(path) + R"("})"), HasSubstr("a file in the same folder"));
  for (const char* map : {"{}", "[]", "1", "null", R"("x")"})
    EXPECT_THAT(with_map(map), HasSubstr("weight_map"));
  EXPECT_THAT(with_map(R"({"a":1})"), HasSubstr("must be a text"));
  folder.write(kIndex, "[]");
  EXPECT_THAT(folder_refusal(folder), HasSubstr("weight_map"));
  folder.write(kIndex, "{");
  EXPECT_THAT(folder_refusal(folder), HasSubstr(kIndex));
}

TEST(SafetensorsFolder, ATensorInTwoShardsIsRefused) {
  const TemporaryFolder folder;
  write_two(folder);
  std::filesystem::copy_file(folder / kFirst, folder / kSecond,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(folder_refusal(folder), HasSubstr("is in another file, too"));
}

TEST(WriteSafetensorsFolder, LeavesNothingWhenItFails) {
  const TemporaryFolder folder;
  std::vector<TensorPlan> plans = kThree;
  plans.back().produce = [](const ByteSink&) { fail("the source is gone"); };
  EXPECT_EQ(error_of([&] { write_safetensors_folder(folder.path(), plans, {}, 12); }), "the source is gone");
  EXPECT_THAT(folder.files(), IsEmpty());
  plans = {tensor("a", kFour), tensor("b", kFour), tensor("a", kFour)};
  EXPECT_EQ(error_of([&] { write_safetensors_folder(folder.path(), plans, {}, 1); }),
            "two tensors can't both be saved as \"a\"");
  {
    const FileSizeLimit limit(10);
    EXPECT_THAT(error_of([&] { write_two(folder); }), HasSubstr("ulimit -f"));
  }
  EXPECT_THAT(folder.files(), IsEmpty());
  folder.write("model.safetensors", "mine");
  EXPECT_THAT(error_of([&] { write_two(folder); }), HasSubstr("would hide the 2 files"));
  EXPECT_THAT(folder.files(), ElementsAre("model.safetensors"));
}

}  // namespace
}  // namespace gatewright

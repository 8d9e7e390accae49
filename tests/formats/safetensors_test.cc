#include "gatewright/formats/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>
#include <map>

#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/base/random.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A file put together by hand: 8 bytes of length, the header as it stands, the data.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  return file + header + data;
}

std::map<std::string, TensorView> parse(const std::string& file) {
  return parse_safetensors(bytes_of(file), "model.safetensors");
}

std::string safetensors_refusal(const std::string& file) {
  std::string message = error_of([&] { parse(file); });
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_LT(message.size(), 400u) << message;
  for (const char c : message) EXPECT_TRUE(c >= 32 && c < 127) << message;
  return message;
}

std::string header_refusal(const std::string& header, const std::string& data = "") {
  return safetensors_refusal(file_of(header, data));
}

TEST(Safetensors, AHandMadeFileIsReadByTheFormatsRules) {
  // Two tensors: 2 x 2 float16 in the first 8 bytes and three bytes behind them.
  const std::string data("\0\x3c\0\x40\0\x42\0\x44\x01\x02\x03", 11);
  const std::string file =
      file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
              R"("a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}   )",
              data);
  Metadata metadata;
  const auto tensors = parse_safetensors(bytes_of(file), "f", &metadata);
  ASSERT_EQ(tensors.size(), 2u);
  const TensorView &a = tensors.at("a"), &b = tensors.at("b");
  EXPECT_EQ(a.dtype, DataType::kF16);
  EXPECT_THAT(a.shape, ElementsAre(2, 2));
  EXPECT_EQ(std::memcmp(a.data.data(), data.data(), 8), 0);
  EXPECT_EQ(b.dtype, DataType::kU8);
  EXPECT_THAT(b.data, ElementsAre(std::byte{1}, std::byte{2}, std::byte{3}));
  EXPECT_EQ(metadata, (Metadata{{"format", "pt"}}));
}

TEST(Safetensors, EveryTypeHasTheSizeOfItsName) {
  const std::map<std::string, int64_t> sizes = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                                                {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};
  for (const auto& [name, size] : sizes) {
    const auto type = parse_data_type(name);
    ASSERT_TRUE(type) << name;
    EXPECT_EQ(block_bytes(*type), size) << name;
    EXPECT_EQ(data_type_name(*type), name);
  }
  EXPECT_EQ(parse_data_type("bf16"), DataType::kBF16) << "whatever the case";
  EXPECT_FALSE(parse_data_type(""));
}

/// Tensors with random names, types, shapes and bytes; some are scalars, some have no elements.
struct RandomTensors {
  std::vector<std::string> data = {};
  std::vector<TensorView> views = {};

  explicit RandomTensors(uint64_t seed) {
    RandomStream random(seed, "safetensors");
    const size_t count = random.below(8);
    data.resize(count);
    for (size_t i = 0; i < count; ++i) {
      std::vector<int64_t> shape(random.below(4));
      int64_t elements = 1;
      for (int64_t& d : shape) elements *= d = static_cast<int64_t>(random.below(5));
      const auto type = static_cast<DataType>(random.below(10));
      for (int64_t b = elements * block_bytes(type); b > 0; --b)
        data[i] += static_cast<char>(random.below(256));
      // Not in alphabetical order, and with characters that JSON must escape.
      views.push_back({.name = "z\"\\\n\xc3\xa9"[random.below(4)] + std::to_string(100 - i),
                       .dtype = type,
                       .shape = shape,
                       .data = bytes_of(data[i])});
    }
  }
};

TEST(Safetensors, WhatIsWrittenIsReadBackInAnyMixOfTypesAndShapes) {
  const TemporaryFolder folder;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const RandomTensors random(seed);
    const Metadata metadata = seed % 2 ? Metadata{{"format", "pt"}, {"note", "a \"b\"\n"}} : Metadata{};
    write_safetensors(folder / "f", random.views, metadata);
    const SafetensorsFile file(folder / "f");
    EXPECT_EQ(file.metadata(), metadata);
    ASSERT_EQ(file.tensors().size(), random.views.size());
    for (const TensorView& written : random.views) {
      const TensorView& read = file.tensors().at(written.name);
      EXPECT_EQ(read.name, written.name);
      EXPECT_EQ(read.dtype, written.dtype);
      EXPECT_EQ(read.shape, written.shape);
      EXPECT_TRUE(std::ranges::equal(read.data, written.data));
    }
    EXPECT_EQ(std::filesystem::file_size(folder / "f"), safetensors_size(random.views, metadata));
  }
}

TEST(Safetensors, DataLiesInTheOrderGivenAndBeginsAtAMultipleOfEight) {
  const std::string first = "bbbb", second = "aaaa";
  const std::vector<TensorView> views = {
      {.name = "b", .dtype = DataType::kF32, .shape = {1}, .data = bytes_of(first)},
      {.name = "a", .dtype = DataType::kF32, .shape = {1}, .data = bytes_of(second)}};
  const TemporaryFolder folder;
  write_safetensors(folder / "f", views);
  const std::string file = read_file(folder / "f");
  EXPECT_TRUE(file.ends_with("bbbbaaaa"));
  EXPECT_EQ((file.size() - 8) % 8, 0u);
  write_safetensors(folder / "again", views);
  EXPECT_EQ(read_file(folder / "again"), file) << "the same tensors give the same bytes";
}

TEST(Safetensors, AFileWithoutTensorsIsAFile) {
  EXPECT_THAT(parse(file_of("{}", "")), IsEmpty());
  EXPECT_THAT(parse(file_of(R"({"__metadata__":{}})", "")), IsEmpty());
}

// --- hostile files ---

std::string small_file() {
  return file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
}

TEST(SafetensorsRefuses, AFileThatIsCutOffAnywhere) {
  const std::string whole = small_file();
  EXPECT_EQ(parse(whole).size(), 1u);
  for (size_t size = 0; size < whole.size(); ++size) safetensors_refusal(whole.substr(0, size));
}

TEST(SafetensorsRefuses, AHeaderLengthThatLies) {
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{53}, uint64_t{55}, uint64_t{63},
                                uint64_t{100'000'001}, uint64_t{1} << 62, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string file = small_file();
    std::memcpy(file.data(), &length, sizeof length);
    safetensors_refusal(file);
  }
  std::string huge = small_file();
  const uint64_t length = ~uint64_t{0};
  std::memcpy(huge.data(), &length, sizeof length);
  EXPECT_EQ(
      safetensors_refusal(huge),
      "model.safetensors is damaged: its header claims 18446744073709551615 bytes, the file has 62 after it");
}

TEST(SafetensorsRefuses, RangesOutsideTheFile) {
  for (const char* range : {"[0,9]", "[1,9]", "[4,12]", "[8,16]", "[9223372036854775800,9223372036854775807]",
                            "[18446744073709551608,0]", "[8,0]", "[-8,0]", "[0,8,8]", "[0]", "[]", "[0,8.0]",
                            "[0,\"8\"]", "8", "null", "{}", "[[0],8]"}) {
    header_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + std::string(range) + "}}",
                   "12345678");
  }
  EXPECT_EQ(header_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", "12345678"),
            "model.safetensors: \"a\" lies outside the file: its range must be within the 8 bytes of data");
}

TEST(SafetensorsRefuses, HolesAndOverlaps) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}";
  };
  EXPECT_EQ(parse(file_of(two("[2,4]", "[0,2]"), "1234")).size(), 2u);
  EXPECT_THAT(header_refusal(two("[0,2]", "[1,3]"), "123"), HasSubstr("a hole or an overlap before \"b\""));
  EXPECT_THAT(header_refusal(two("[0,2]", "[0,2]"), "12"), HasSubstr("overlap"));
  EXPECT_THAT(header_refusal(two("[0,2]", "[3,5]"), "12345"), HasSubstr("hole"));
  EXPECT_THAT(header_refusal(two("[1,3]", "[3,5]"), "12345"), HasSubstr("hole"));
  EXPECT_THAT(header_refusal(two("[0,2]", "[2,4]"), "123456"), HasSubstr("2 bytes after the last tensor"));
}

TEST(SafetensorsRefuses, ShapesThatDoNotFitTheRange) {
  const auto with_shape = [](const std::string& shape) {
    return R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,8]}})";
  };
  EXPECT_EQ(header_refusal(with_shape("[3]"), "12345678"),
            "model.safetensors: \"a\" has 8 bytes for a shape that takes 12");
  // Products that wrap around to 2 elements, or to 8 bytes.
  for (const char* shape :
       {"[4294967296,4294967296,2]", "[4611686018427387906]", "[9223372036854775807,2]",
        "[3037000500,3037000500]", "[18446744073709551615]", "[-2]", "[-1,-2]", "[2.0]", "[\"2\"]", "[null]",
        "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "2", "{}", "[[2]]", "[]"})
    header_refusal(with_shape(shape), "12345678");
}

TEST(SafetensorsRefuses, NamesAndKeysThatRepeat) {
  const std::string a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(header_refusal("{" + a + "," + a + "}"),
            "model.safetensors is damaged: \"a\" stands twice in the header");
  EXPECT_THAT(header_refusal(R"({"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}})"),
              HasSubstr("twice"));
  EXPECT_THAT(header_refusal(R"({"a":{"shape":[0],"shape":[0],"dtype":"U8","data_offsets":[0,0]}})"),
              HasSubstr("twice"));
  EXPECT_THAT(header_refusal(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("twice"));
  EXPECT_THAT(header_refusal(R"({"__metadata__":{"k":"1","k":"2"}})"), HasSubstr("twice"));
}

TEST(SafetensorsRefuses, EntriesThatAreNone) {
  EXPECT_EQ(header_refusal(R"({"a":{"dtype":"Q4","shape":[0],"data_offsets":[0,0]}})"),
            "model.safetensors: \"a\" has the type \"Q4\", which is not known");
  for (const char* entry : {"1", "null", "true", "\"F32\"", "[]", "{}", R"({"dtype":"U8","shape":[0]})",
                            R"({"dtype":"U8","data_offsets":[0,0]})", R"({"shape":[0],"data_offsets":[0,0]})",
                            R"({"dtype":1,"shape":[0],"data_offsets":[0,0]})",
                            R"({"dtype":null,"shape":[0],"data_offsets":[0,0]})",
                            R"({"dtype":["U8"],"shape":[0],"data_offsets":[0,0]})",
                            R"({"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":{}})"})
    EXPECT_THAT(header_refusal(R"({"a":)" + std::string(entry) + "}"), HasSubstr("\"a\""));
}

TEST(SafetensorsRefuses, HeadersThatAreNoObjectOfTensors) {
  for (const char* header : {"[]", "1", "\"a\"", "null", "true", "", "   ", "{", "}", "{\"a\"", "{}{}",
                             "{} x", "{\"a\":}", "\xff\xfe", "{\"\xff\":1}", "nan"})
    header_refusal(header);
  for (const char* metadata :
       {"1", "[]", "null", "\"x\"", R"({"k":1})", R"({"k":null})", R"({"k":{}})", R"({"k":["a"]})"})
    EXPECT_THAT(header_refusal(R"({"__metadata__":)" + std::string(metadata) + "}"),
                HasSubstr("__metadata__ must map texts to texts"));
}

TEST(SafetensorsRefuses, NestingWithoutEnd) {
  const std::string deep(1 << 20, '[');
  header_refusal(deep);
  header_refusal(R"({"a":)" + deep);
  header_refusal(R"({"a":{"shape":)" + deep);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  header_refusal(objects);
}

TEST(SafetensorsRefuses, NamesThatAreLongOrNotPrintable) {
  const std::string escape = "\x1b[31m";
  const std::string name = std::string(1 << 20, 'x');
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,0]})";
  header_refusal(R"({")" + name + R"(":)" + entry + "}");
  header_refusal("{\"\\u001b[31m\":" + entry + "}");
  header_refusal("{\"" + escape + "\":" + entry + "}");
  header_refusal(R"({"a":{"dtype":")" + name + R"("}})");
  header_refusal(R"({"a":{")" + name + R"(":1}})");
}

TEST(Safetensors, ReadsAHundredThousandEntries) {
  std::string header = "{", data;
  for (int i = 0; i < 100'000; ++i) {
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
    data += static_cast<char>(i);
  }
  const std::string file = file_of(header + "}", data);
  const auto tensors = parse(file);
  ASSERT_EQ(tensors.size(), 100'000u);
  EXPECT_EQ(tensors.at("777").data[0], std::byte{777 % 256});
}

/// Any single changed byte is refused or gives tensors that lie inside the file: nothing in between.
TEST(Safetensors, AnyChangedByteIsRefusedOrStaysInside) {
  RandomStream random(1, "damage");
  const RandomTensors some(3);
  const TemporaryFolder folder;
  write_safetensors(folder / "f", some.views, {{"format", "pt"}});
  const std::string whole = read_file(folder / "f");
  for (int i = 0; i < 20'000; ++i) {
    std::string file = whole;
    for (uint64_t changes = 1 + random.below(3); changes > 0; --changes)
      file[random.below(file.size())] = static_cast<char>(random.below(256));
    try {
      for (const auto& [name, view] : parse(file)) {
        EXPECT_GE(reinterpret_cast<const char*>(view.data.data()), file.data());
        EXPECT_LE(reinterpret_cast<const char*>(view.data.data() + view.data.size()),
                  file.data() + file.size());
      }
    } catch (const Error&) {
    }
  }
}

TEST(SafetensorsFile, NamesTheFileInErrors) {
  const TemporaryFolder folder;
  const auto path = folder.write("broken", "1234");
  EXPECT_EQ(error_of([&] { SafetensorsFile file(path); }),
            path.string() + " is not a safetensors file: it has 4 bytes, the header's length alone takes 8");
  EXPECT_THAT(error_of([&] { SafetensorsFile file(folder / "none"); }),
              AllOf(HasSubstr("none"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { SafetensorsFile file(folder.path()); }), HasSubstr("is not a file"));
  folder.write("empty", "");
  EXPECT_THAT(error_of([&] { SafetensorsFile file(folder / "empty"); }), HasSubstr("it has 0 bytes"));
}

// --- writing ---

const std::string kFourBytes = "1234";

TensorView four_bytes(const std::string& name) {
  return {.name = name, .dtype = DataType::kF32, .shape = {1}, .data = bytes_of(kFourBytes)};
}

TEST(WriteSafetensors, RefusesWhatCouldNotBeReadBackAndLeavesNothing) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<TensorView>& tensors) {
    return error_of([&] { write_safetensors(folder / "f", tensors); });
  };
  EXPECT_EQ(refused({four_bytes("a"), four_bytes("b"), four_bytes("a")}),
            "two tensors can't both be saved as \"a\"");
  refused({four_bytes("__metadata__")});
  TensorView wrong = four_bytes("a");
  wrong.shape = {2};
  EXPECT_EQ(refused({wrong}), "\"a\" can't be saved: 4 bytes for a shape that takes 8");
  EXPECT_THAT(folder.files(), IsEmpty());
}

TEST(WriteSafetensors, RefusesNamesThatAreNoText) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { write_safetensors(folder / "f", std::vector{four_bytes("\xff")}); }),
              HasSubstr("is not UTF-8"));
  EXPECT_THAT(folder.files(), IsEmpty());
}

TEST(WriteSafetensors, AFullDiskIsAnErrorAndLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const std::string large(1 << 20, 'x');
  const std::vector<TensorView> views = {
      {.name = "a", .dtype = DataType::kU8, .shape = {1 << 20}, .data = bytes_of(large)}};
  const auto path = folder.write("model.safetensors", "what was there");
  {
    const FileSizeLimit limit(100'000);
    EXPECT_THAT(error_of([&] { write_safetensors(path, views); }),
                AllOf(HasSubstr("cannot write " + path.string()), HasSubstr("File too large")));
  }
  EXPECT_EQ(read_file(path), "what was there");
  EXPECT_THAT(folder.files(), ElementsAre("model.safetensors"));
  write_safetensors(path, views);
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), 1u);
  EXPECT_THAT(folder.files(), ElementsAre("model.safetensors"));
}

TEST(WriteSafetensors, ReplacesAFileThatIsStillMapped) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", std::vector{four_bytes("a")});
  const SafetensorsFile before(folder / "f");
  write_safetensors(folder / "f",
                    before.tensors().size() == 1 ? std::vector{four_bytes("b")} : std::vector<TensorView>{});
  EXPECT_TRUE(std::ranges::equal(before.tensors().at("a").data, bytes_of(kFourBytes)));
  EXPECT_TRUE(SafetensorsFile(folder / "f").tensors().contains("b"));
}

TEST(WriteSafetensors, NamesAFolderThatIsNoneOrMissing) {
  const TemporaryFolder folder;
  folder.write("file", "x");
  for (const auto& path : {folder / "missing/f", folder / "file/f", folder.path()})
    EXPECT_THAT(error_of([&] { write_safetensors(path, std::vector{four_bytes("a")}); }),
                HasSubstr("cannot write " + path.string()));
  EXPECT_THAT(folder.files(), ElementsAre("file"));
}

}  // namespace
}  // namespace gatewright

#include "gatewright/formats/gguf.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "gatewright/base/file.h"
#include "gatewright/base/random.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
Gguf parse(const std::string& file) { return parse_gguf(bytes_of(file), "model.gguf"); }

std::string refusal(const std::string& file) {
  std::string message = error_of([&] { parse(file); });
  EXPECT_THAT(message, HasSubstr("model.gguf"));
  EXPECT_LT(message.size(), 400u) << message;
  for (const char c : message) EXPECT_TRUE(c >= 32 && c < 127) << message;
  return message;
}

/// What is said of the small file after a change.
std::string refusal(const std::function<void(MadeGguf&)>& change) {
  MadeGguf made = small_gguf();
  change(made);
  return refusal(made.bytes());
}

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

// --- metadata ---

TEST(GgufMetadata, ValuesAreReadByTheirTypeOrRefused) {
  GgufMetadata m("model.gguf");
  m.set("flag", true);
  m.set("small", uint8_t{200});
  m.set("negative", int32_t{-7});
  m.set("huge", ~uint64_t{0});
  m.set("float", 0.5F);
  m.set("double", 0.1);
  m.set("text", "a\nb");
  m.set("list", std::vector<uint32_t>{1, 2, 4000000000});
  m.set("floats", std::vector<float>{0.25F, -1});
  m.set("texts", std::vector<std::string>{"x", ""});
  EXPECT_TRUE(m.flag("flag"));
  EXPECT_EQ(m.integer("small"), 200);
  EXPECT_EQ(m.integer("negative"), -7);
  EXPECT_EQ(m.number("float"), 0.5);
  EXPECT_EQ(m.number("double"), 0.1);
  EXPECT_EQ(m.text("text"), "a\nb");
  EXPECT_THAT(m.integers("list"), ElementsAre(1, 2, 4000000000));
  EXPECT_THAT(m.numbers("floats"), ElementsAre(0.25, -1));
  EXPECT_THAT(m.texts("texts"), ElementsAre("x", ""));
  EXPECT_THAT(m.integers("negative"), ElementsAre(-7)) << "one value where a list may stand";
  EXPECT_EQ(m.integer_or("absent", 3), 3);
  EXPECT_EQ(m.text_or("absent", "t"), "t");
  EXPECT_EQ(m.number_or("absent", 1.5), 1.5);
  EXPECT_FALSE(m.flag_or("absent", false));

  EXPECT_EQ(error_of([&] { m.integer("absent"); }), "model.gguf has no key \"absent\"");
  EXPECT_EQ(
      error_of([&] { m.integer("list"); }),
      "model.gguf: the key \"list\" holds a value of type array of 3 values of type u32; an integer (at most "
      "63 bits) was expected");
  for (const char* key : {"flag", "float", "text", "huge"}) {
    EXPECT_THAT(error_of([&] { m.integer(key); }), HasSubstr(key));
    EXPECT_THAT(error_of([&] { m.integer_or(key, 1); }), HasSubstr(key));
    EXPECT_THAT(error_of([&] { m.integers(key); }), HasSubstr(key));
  }
  for (const char* key : {"flag", "small", "text", "floats"}) error_of([&] { m.number(key); });
  for (const char* key : {"small", "list", "text"}) error_of([&] { m.numbers(key); });
  for (const char* key : {"small", "float", "texts"}) error_of([&] { m.text(key); });
  for (const char* key : {"small", "float", "texts"}) error_of([&] { m.flag(key); });
  for (const char* key : {"small", "floats"}) error_of([&] { m.texts(key); });
}

TEST(GgufMetadata, IntegersOfEveryWidthAreRead) {
  GgufMetadata m;
  m.set("u8", uint8_t{255});
  m.set("i8", int8_t{-128});
  m.set("u16", uint16_t{65535});
  m.set("i16", int16_t{-32768});
  m.set("u32", ~uint32_t{0});
  m.set("i32", INT32_MIN);
  m.set("u64", uint64_t{INT64_MAX});
  m.set("i64", INT64_MIN);
  const std::map<std::string, int64_t> values = {{"u8", 255},        {"i8", -128},        {"u16", 65535},
                                                 {"i16", -32768},    {"u32", 4294967295}, {"i32", INT32_MIN},
                                                 {"u64", INT64_MAX}, {"i64", INT64_MIN}};
  for (const auto& [key, value] : values) {
    EXPECT_EQ(m.integer(key), value);
    EXPECT_EQ(gguf_type_name(m.find(key)->type()), key);
  }
  m.set("flags", raw(uint8_t{1}).c_str());
  EXPECT_THAT(error_of([&] { m.flags("flags"); }), HasSubstr("an array of bools"));
  m.set("one flag", true);
  EXPECT_THAT(m.flags("one flag"), ElementsAre(true));
}

TEST(GgufMetadata, ValuesAreEqualWhenTypeAndBytesAre) {
  EXPECT_EQ(GgufValue(5), GgufValue(int32_t{5}));
  EXPECT_FALSE(GgufValue(5) == GgufValue(uint32_t{5}));
  EXPECT_FALSE(GgufValue(5) == GgufValue(6));
  EXPECT_FALSE(GgufValue(5) == GgufValue(std::vector<int32_t>{5}));
  EXPECT_EQ(GgufValue("a"), GgufValue(std::string("a")));
}

TEST(GgufMetadata, KeysKeepTheirPlaceWhenTheyAreSetAgain) {
  GgufMetadata m;
  m.set("a", 1);
  m.set("b", 2);
  m.set("a", "text");
  EXPECT_THAT(m.keys(), ElementsAre("a", "b"));
  EXPECT_EQ(m.text("a"), "text");
  m.erase("a");
  m.erase("absent");
  EXPECT_THAT(m.keys(), ElementsAre("b"));
  EXPECT_EQ(m.find("a"), nullptr);
}

TEST(GgufMetadata, BytesReadAsNumbersAreRefused) {
  MadeGguf made = small_gguf();
  made.keys.push_back(array_key("tokenizer.ggml.scores", 0, 8, "12345678"));
  const std::string file = made.bytes();
  const Gguf gguf = parse(file);
  EXPECT_EQ(
      error_of([&] { gguf.metadata.numbers("tokenizer.ggml.scores"); }),
      "model.gguf: the key \"tokenizer.ggml.scores\" holds a value of type array of 8 values of type u8; an "
      "array of f32 or f64 was expected");
  EXPECT_EQ(gguf.metadata.integers("tokenizer.ggml.scores").size(), 8u);
}

TEST(GgufMetadata, AFlagOfSevenIsNone) {
  MadeGguf made = small_gguf();
  made.keys.push_back(raw_key("flag", 7, "\x07"));
  made.keys.push_back(array_key("flags", 7, 2, "\x01\x07"));
  const std::string file = made.bytes();
  const Gguf gguf = parse(file);
  EXPECT_THAT(error_of([&] { gguf.metadata.flag("flag"); }), HasSubstr("\"flag\""));
  EXPECT_THAT(error_of([&] { gguf.metadata.flags("flags"); }), HasSubstr("\"flags\""));
}

// --- writing ---

TEST(WriteGguf, WhatIsReadAndWrittenAgainHasTheSameBytes) {
  MadeGguf made = small_gguf();
  for (uint32_t type = 0; type <= 12; ++type) {
    if (type == 9) continue;
    const std::string value =
        type == 8 ? raw_string("text") : std::string(gguf_type_bytes(GgufType{type}), '\x01');
    made.keys.push_back(raw_key("scalar." + std::to_string(type), type, value));
    made.keys.push_back(array_key("array." + std::to_string(type), type, 3, value + value + value));
  }
  const std::string before = made.bytes();
  const Gguf gguf = parse(before);
  std::vector<TensorPlan> plans;
  for (const std::string& name : gguf.order) plans.push_back(plan_of(gguf.tensors.at(name)));
  const TemporaryFolder folder;
  write_gguf(folder / "m.gguf", gguf.metadata, plans);
  EXPECT_EQ(read_file(folder / "m.gguf"), before);
  EXPECT_EQ(gguf_size(gguf.metadata, plans), before.size());
}

TEST(WriteGguf, BytesMayComeInPieces) {
  const TemporaryFolder folder;
  const std::string whole(100, 'x');
  const TensorPlan plan = {
      .name = "t", .dtype = DataType::kI8, .shape = {10, 10}, .produce = [&](const ByteSink& sink) {
        for (size_t i = 0; i < 10; ++i) sink(bytes_of(whole).subspan(10 * i, 10));
      }};
  write_gguf(folder / "m.gguf", GgufMetadata(), std::vector{plan});
  const GgufFile file(folder / "m.gguf");
  EXPECT_TRUE(std::ranges::equal(file.tensor("t").data, bytes_of(whole)));
}

TEST(WriteGguf, RefusesWhatCouldNotBeReadBackAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string four = "1234";
  const TensorPlan good = {.name = "t", .dtype = DataType::kF32, .shape = {1}, .data = bytes_of(four)};
  const auto refused = [&](const std::function<void(TensorPlan&)>& change, bool twice = false) {
    std::vector<TensorPlan> plans(twice ? 2 : 1, good);
    change(plans.back());
    return error_of([&] { write_gguf(folder / "m.gguf", GgufMetadata(), plans); });
  };
  EXPECT_EQ(refused([](TensorPlan&) {}, true), "two tensors can't both be saved as \"t\"");
  EXPECT_EQ(refused([](TensorPlan& t) { t.shape = {2}; }),
            "\"t\" can't be saved: 4 bytes for a shape that takes 8");
  EXPECT_THAT(refused([](TensorPlan& t) { t.shape = {}; }), HasSubstr("one to four dimensions"));
  EXPECT_THAT(refused([](TensorPlan& t) { t.shape = {1, 1, 1, 1, 1}; }), HasSubstr("one to four dimensions"));
  EXPECT_THAT(refused([](TensorPlan& t) { t.shape = {0}; }), HasSubstr("at least 1"));
  EXPECT_THAT(refused([](TensorPlan& t) { t.name = ""; }), HasSubstr("must have a name"));
  EXPECT_THAT(refused([](TensorPlan& t) { t.dtype = DataType::kBool; }), HasSubstr("no type BOOL"));
  EXPECT_THAT(refused([&](TensorPlan& t) {
                t.produce = [&](const ByteSink& sink) { sink(bytes_of(four)), sink(bytes_of(four)); };
              }),
              HasSubstr("more than the 4 bytes"));
  GgufMetadata odd;
  odd.set("general.alignment", uint32_t{3});
  EXPECT_THAT(error_of([&] { write_gguf(folder / "m.gguf", odd, std::vector{good}); }),
              HasSubstr("power of two"));
  EXPECT_THAT(folder.files(), IsEmpty());
}

TEST(WriteGguf, AFullDiskIsAnErrorAndLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const std::string large(1 << 20, 'x');
  const TensorPlan plan = {.name = "t", .dtype = DataType::kI8, .shape = {1 << 20}, .data = bytes_of(large)};
  const auto path = folder.write("m.gguf", "what was there");
  {
    const FileSizeLimit limit(100'000);
    EXPECT_THAT(error_of([&] { write_gguf(path, GgufMetadata(), std::vector{plan}); }),
                HasSubstr("ulimit -f"));
  }
  EXPECT_EQ(read_file(path), "what was there");
  EXPECT_THAT(folder.files(), ElementsAre("m.gguf"));
}

TEST(WriteGguf, AProducerThatFailsLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const auto path = folder.write("m.gguf", "what was there");
  const TensorPlan plan = {.name = "t", .dtype = DataType::kI8, .shape = {4}, .produce = [](const ByteSink&) {
                             fail("the source is gone");
                           }};
  EXPECT_EQ(error_of([&] { write_gguf(path, GgufMetadata(), std::vector{plan}); }), "the source is gone");
  EXPECT_EQ(read_file(path), "what was there");
  EXPECT_THAT(folder.files(), ElementsAre("m.gguf"));
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

// --- hostile files ---

TEST(GgufRefuses, AFileThatIsCutOffAnywhere) {
  const std::string whole = small_gguf().bytes();
  const size_t padding = 32 - 68 % 32;  // after the last tensor; writers may leave it away
  for (size_t size = 0; size < whole.size() - padding; ++size) refusal(whole.substr(0, size));
  EXPECT_EQ(parse(whole.substr(0, whole.size() - padding)).tensors.size(), 2u);
}

TEST(GgufRefuses, WhatIsNoGgufOfOurVersions) {
  EXPECT_EQ(refusal([](MadeGguf& m) { m.magic = "GGML"; }),
            "model.gguf is not a GGUF file: it begins with \"GGML\", not with \"GGUF\"");
  EXPECT_THAT(refusal([](MadeGguf& m) { m.version = 1; }), HasSubstr("version 1; versions 2 and 3"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.version = 4; }), HasSubstr("version 4"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.version = 0; }), HasSubstr("version 0"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.version = 0x03000000; }), HasSubstr("big-endian"));
  EXPECT_THAT(refusal(std::string()), HasSubstr("it has 0 bytes"));
}

TEST(GgufRefuses, CountsThatDriveAllocation) {
  for (const uint64_t count : {uint64_t{100}, uint64_t{1} << 32, uint64_t{1} << 60, ~uint64_t{0} - 7}) {
    EXPECT_THAT(refusal([&](MadeGguf& m) { m.claimed_tensors = count; }), HasSubstr(std::to_string(count)));
    EXPECT_THAT(refusal([&](MadeGguf& m) { m.claimed_keys = count; }), HasSubstr(std::to_string(count)));
    for (uint32_t type = 0; type <= 12; ++type) {
      if (type == 9) continue;
      EXPECT_THAT(refusal([&](MadeGguf& m) { m.keys.push_back(array_key("x", type, count * 8, "")); }),
                  HasSubstr("bytes are left"));
    }
    refusal([&](MadeGguf& m) { m.keys[0] = raw(count) + m.keys[0].substr(8); });
    refusal([&](MadeGguf& m) { m.keys.push_back(raw_key("x", 8, raw(count))); });
    refusal([&](MadeGguf& m) { m.keys.push_back(array_key("x", 8, 1, raw(count))); });
  }
  const std::string many(3 << 20, '\0');
  EXPECT_THAT(refusal("GGUF" + raw(uint32_t{3}) + raw(uint64_t{70'000}) + many), HasSubstr("at most 65536"));
  EXPECT_THAT(refusal("GGUF" + raw(uint32_t{3}) + raw(uint64_t{0}) + raw(uint64_t{70'000}) + many),
              HasSubstr("at most 65536"));
}

TEST(GgufRefuses, SizesThatWrap) {
  for (const std::vector<uint64_t>& dimensions :
       {std::vector<uint64_t>{uint64_t{1} << 33, uint64_t{1} << 33},
        {uint64_t{1} << 62, 4},
        {uint64_t{1} << 61},
        {1, uint64_t{1} << 62},
        {~uint64_t{0}},
        {uint64_t{1} << 63},
        {3037000500, 3037000500},
        {uint64_t{1} << 16, uint64_t{1} << 16, uint64_t{1} << 16, uint64_t{1} << 16}})
    EXPECT_THAT(refusal([&](MadeGguf& m) { m.tensors[0].dimensions = dimensions; }),
                HasSubstr("blk.0.b.weight"));
}

TEST(GgufRefuses, ZeroDimensionsAndEmptyOrRepeatedNames) {
  EXPECT_THAT(refusal([](MadeGguf& m) {
                m.tensors[0].dimensions = {0, 2};
              }),
              HasSubstr("\"blk.0.b.weight\" has a dimension of 0"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[1].dimensions = {32, 0}; }), HasSubstr("a dimension of 0"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[0].dimensions = {}; }), HasSubstr("0 dimensions"));
  EXPECT_THAT(refusal([](MadeGguf& m) {
                m.tensors[0].dimensions = {1, 1, 1, 1, 1};
              }),
              HasSubstr("5 dimensions"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[0].name = ""; }), HasSubstr("name of a tensor is empty"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[0].name = m.tensors[1].name; }), HasSubstr("stands twice"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(u32_key("", 1)); }), HasSubstr("a key is empty"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(m.keys[0]); }),
              HasSubstr("\"general.architecture\" stands twice"));
}

TEST(GgufRefuses, AlignmentThatIsNone) {
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 21, 1u << 31})
    EXPECT_THAT(refusal([&](MadeGguf& m) { m.keys.push_back(u32_key("general.alignment", alignment)); }),
                HasSubstr("general.alignment is " + std::to_string(alignment)));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(text_key("general.alignment", "32")); }),
              HasSubstr("general.alignment"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(array_key("general.alignment", 4, 1, raw(32))); }),
              HasSubstr("general.alignment"));
}

TEST(GgufRefuses, TensorsOutsideTheFileOrOverOthers) {
  for (const uint64_t offset : {uint64_t{1} << 50, ~uint64_t{0} - 31, uint64_t{1} << 63, uint64_t{160}})
    EXPECT_THAT(refusal([&](MadeGguf& m) { m.tensors[1].offset = offset; }), HasSubstr("outside the file"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[1].offset = 33; }), HasSubstr("no multiple of 32"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[1].offset = 0; }), HasSubstr("overlap"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[0].offset = 64; }), HasSubstr("overlap"));
}

TEST(GgufRefuses, TypesThatAreNotKnown) {
  EXPECT_EQ(refusal([](MadeGguf& m) { m.tensors[0].type = 4711; }),
            "model.gguf: the tensor \"blk.0.b.weight\" has the type 4711 of ggml, which is not read");
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(raw_key("x", 99, "")); }),
              HasSubstr("\"x\" has the value type 99"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(array_key("x", 13, 1, "1")); }),
              HasSubstr("\"x\" has the value type 13"));
  EXPECT_THAT(refusal([](MadeGguf& m) { m.keys.push_back(array_key("x", 9, 1, raw(0) + raw(uint64_t{0}))); }),
              HasSubstr("array of arrays"));
}

TEST(GgufRefuses, RowsThatAreNoWholeBlocks) {
  EXPECT_THAT(refusal([](MadeGguf& m) {
                m.tensors[1].dimensions = {16, 4};
              }),
              AllOf(HasSubstr("blk.0.a.weight"), HasSubstr("Q8_0")));
}

TEST(GgufRefuses, NamesThatAreLongOrNotPrintable) {
  EXPECT_THAT(refusal([](MadeGguf& m) { m.tensors[0].name = std::string(1 << 20, 'x'); }),
              HasSubstr("1048576 bytes"));
  refusal([](MadeGguf& m) { m.keys.push_back(raw_key(std::string(1 << 20, 'x'), 99, "")); });
  refusal([](MadeGguf& m) { m.tensors[0] = {.name = "\x1b[31m", .dimensions = {0}}; });
  refusal([](MadeGguf& m) { m.keys.push_back(raw_key("\x1b[31m\xff", 99, "")); });
}

/// Any changed bytes are refused or give tensors that lie inside the file: nothing in between.
TEST(Gguf, AnyChangedByteIsRefusedOrStaysInside) {
  RandomStream random(1, "damage");
  const std::string whole = small_gguf().bytes();
  for (int i = 0; i < 20'000; ++i) {
    std::string file = whole;
    for (uint64_t changes = 1 + random.below(3); changes > 0; --changes)
      file[random.below(file.size())] = static_cast<char>(random.below(256));
    try {
      const Gguf gguf = parse(file);
      for (const auto& [name, view] : gguf.tensors) {
        EXPECT_GE(reinterpret_cast<const char*>(view.data.data()), file.data());
        EXPECT_LE(reinterpret_cast<const char*>(view.data.data() + view.data.size()),
                  file.data() + file.size());
      }
      for (const std::string& key : gguf.metadata.keys())
        EXPECT_FALSE(gguf.metadata.find(key)->described().empty());
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace gatewright

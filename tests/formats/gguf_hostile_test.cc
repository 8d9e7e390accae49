// GGUF files that lie, in every place.
#include <gmock/gmock.h>

#include "gatewright/base/random.h"
#include "tests/formats/gguf_parsing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

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

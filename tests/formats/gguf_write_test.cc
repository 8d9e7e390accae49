// Writing GGUF.
#include <gmock/gmock.h>

#include <functional>

#include "gatewright/base/file.h"
#include "tests/formats/gguf_parsing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

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

}  // namespace
}  // namespace gatewright

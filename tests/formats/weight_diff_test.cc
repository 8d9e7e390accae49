#include "gatewright/formats/weight_diff.h"

#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/formats/safetensors_folder.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Difference : public testing::Test {
 protected:
  WeightDiff of(const MadeGguf& a, const MadeGguf& b, const DiffOptions& options = {}) {
    return diff_weights(folder_.write("a.gguf", a.bytes()), folder_.write("b.gguf", b.bytes()), options);
  }
  TemporaryFolder folder_;
};

TEST_F(Difference, OfAFileFromItselfIsNone) {
  const WeightDiff diff = of(small_gguf(), small_gguf());
  EXPECT_TRUE(diff.empty());
  EXPECT_EQ(diff.same_keys, 3u);
  EXPECT_EQ(diff.same_tensors, 2u);
}

TEST_F(Difference, OfValuesIsMeasured) {
  MadeGguf other = small_gguf();
  other.tensors[0].data = raw_floats({0, 1, 2, 3, 4, 8});
  const WeightDiff diff = of(small_gguf(), other);
  ASSERT_EQ(diff.tensors.size(), 1u);
  EXPECT_EQ(diff.tensors[0].name, "blk.0.b.weight");
  ASSERT_TRUE(diff.tensors[0].values);
  EXPECT_DOUBLE_EQ(diff.tensors[0].values->max_abs, 3);
  EXPECT_DOUBLE_EQ(diff.tensors[0].values->rms, std::sqrt(9.0 / 6));
  EXPECT_DOUBLE_EQ(diff.tensors[0].values->relative, std::sqrt(9.0 / 55));
  EXPECT_EQ(diff.tensors[0].values->not_finite, 0u);
}

TEST_F(Difference, OfTypesCountsUnlessATolerancePassesThem) {
  MadeGguf other = small_gguf();
  other.tensors[1].type = 0;
  other.tensors[1].data = raw_floats(std::vector<float>(64, 2));
  const WeightDiff diff = of(small_gguf(), other);
  ASSERT_EQ(diff.tensors.size(), 1u);
  EXPECT_EQ(diff.tensors[0].first->dtype, DataType::kQ8_0);
  EXPECT_EQ(diff.tensors[0].second->dtype, DataType::kF32);
  EXPECT_EQ(diff.tensors[0].values->max_abs, 0);
  EXPECT_TRUE(of(small_gguf(), other, {.tolerance = 0.0}).empty());
  other.tensors[1].data = raw_floats(std::vector<float>(64, 2.25F));
  EXPECT_FALSE(of(small_gguf(), other, {.tolerance = 0.2}).empty());
  EXPECT_TRUE(of(small_gguf(), other, {.tolerance = 0.25}).empty());
}

TEST_F(Difference, OfNamesShapesAndKeysIsNamed) {
  MadeGguf other = small_gguf();
  other.tensors[0].dimensions = {2, 3};
  other.tensors[1].name = "blk.0.c.weight";
  other.keys[0] = text_key("general.architecture", "stranger");
  other.keys[1] = u32_key("new", 5);
  const WeightDiff diff = of(small_gguf(), other);
  ASSERT_EQ(diff.tensors.size(), 3u);
  EXPECT_EQ(diff.tensors[0].name, "blk.0.a.weight");
  EXPECT_FALSE(diff.tensors[0].second);
  EXPECT_EQ(diff.tensors[1].name, "blk.0.b.weight");
  EXPECT_THAT(diff.tensors[1].second->shape, ElementsAre(3, 2));
  EXPECT_FALSE(diff.tensors[1].values) << "other shapes have no common values";
  EXPECT_EQ(diff.tensors[2].name, "blk.0.c.weight");
  EXPECT_FALSE(diff.tensors[2].first);
  ASSERT_EQ(diff.keys.size(), 3u);
  EXPECT_EQ(diff.keys[0].key, "general.architecture");
  EXPECT_EQ(diff.keys[0].first, "\"strange\"");
  EXPECT_EQ(diff.keys[0].second, "\"stranger\"");
  EXPECT_EQ(diff.keys[1].key, "strange.block_count");
  EXPECT_EQ(diff.keys[1].first, "1");
  EXPECT_EQ(diff.keys[1].second, std::nullopt);
  EXPECT_EQ(diff.keys[2].second, "5");
}

TEST_F(Difference, OfWhatIsNoNumberIsCountedApart) {
  MadeGguf first = small_gguf(), second = small_gguf();
  first.tensors[0].data = raw_floats({NAN, INFINITY, 2, 3, 4, 5});
  second.tensors[0].data = raw_floats({-NAN, 1, 2, 3, NAN, 5});
  const WeightDiff diff = of(first, second);
  ASSERT_EQ(diff.tensors.size(), 1u);
  EXPECT_EQ(diff.tensors[0].values->not_finite, 2u);
  EXPECT_EQ(diff.tensors[0].values->max_abs, 0);
  EXPECT_FALSE(of(first, second, {.tolerance = 100.0}).empty());
}

TEST_F(Difference, WorksAcrossFormatsAndForFolders) {
  const std::string data = raw_floats({0, 1, 2, 3, 4, 5}), other = raw_floats({0, 1, 2, 3, 4, 6});
  const auto plan = [](const std::string& bytes) {
    return std::vector<TensorPlan>{
        {.name = "blk.0.b.weight", .shape = {2, 3}, .data = std::as_bytes(std::span(bytes))}};
  };
  for (const char* name : {"one", "two"}) std::filesystem::create_directory(folder_ / name);
  write_safetensors_folder(folder_ / "one", plan(data));
  write_safetensors_folder(folder_ / "two", plan(other));
  folder_.write("one/config.json", R"({"model_type":"olmoe","layers":[1,2]})");
  folder_.write("two/config.json", R"({"model_type":"llama","layers":[1,2]})");
  const WeightDiff folders = diff_weights(folder_ / "one", folder_ / "two");
  ASSERT_EQ(folders.keys.size(), 1u);
  EXPECT_EQ(folders.keys[0].key, "config.json: model_type");
  EXPECT_EQ(folders.same_keys, 2u);
  EXPECT_EQ(folders.tensors.size(), 1u);
  const WeightDiff mixed =
      diff_weights(folder_ / "one/model.safetensors", folder_.write("m.gguf", small_gguf().bytes()));
  ASSERT_EQ(mixed.tensors.size(), 1u);
  EXPECT_EQ(mixed.tensors[0].name, "blk.0.a.weight");
  EXPECT_EQ(mixed.same_tensors, 1u);
}

TEST_F(Difference, ProgressReachesTheEnd) {
  MadeGguf other = small_gguf();
  other.tensors[0].data = raw_floats({0, 1, 2, 3, 4, 8});
  uint64_t last = 0, all = 0;
  of(small_gguf(), other, {.progress = [&](uint64_t done, uint64_t total, std::string_view) {
       last = done;
       all = total;
     }});
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, 24u + 68u);
}

}  // namespace
}  // namespace gatewright

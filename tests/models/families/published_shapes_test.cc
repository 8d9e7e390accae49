#include "gatewright/models/families/published_shapes.h"

#include <gmock/gmock.h>

#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/model_file.h"
#include "gatewright/models/families/random_source.h"
#include "gatewright/models/families/summary.h"
#include "gatewright/models/published_model.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

double billions(const Architecture& architecture) {
  int64_t values = 0;
  for (const ModelTensor& t : model_tensors(architecture)) values += t.rows() * t.columns();
  return static_cast<double>(values) / 1e9;
}

TEST(PublishedShapes, HaveThePublishedNumbersOfParameters) {
  const std::pair<const char*, double> published[] = {{"olmoe-1b-7b", 6.92},       {"mixtral-8x7b", 46.7},
                                                      {"qwen1.5-moe-a2.7b", 14.3}, {"qwen3-30b-a3b", 30.5},
                                                      {"deepseek-v2-lite", 15.7},  {"gpt-oss-20b", 20.9}};
  ASSERT_EQ(std::size(published), published_shapes().size());
  for (const auto& [name, count] : published) {
    const Architecture& a = published_shape(name).architecture;
    check_architecture(a, name);
    EXPECT_NEAR(billions(a), count, 0.06) << name;
  }
  EXPECT_THAT(error_of([] { published_shape("olmoe-1b-7"); }), testing::HasSubstr("olmoe-1b-7b"));
}

TEST(RandomSource, MakesAFileOfTheTypeThatLoadsAndRuns) {
  TemporaryFolder folder;
  Architecture a = published_shape("qwen1.5-moe-a2.7b").architecture;
  a.layers.resize(2);
  a.layers[0].routed->num_experts = a.layers[1].routed->num_experts = 5;
  a.layers[0].routed->width = a.layers[1].routed->width = 96;
  a.layers[0].routed->shared_width = a.layers[1].routed->shared_width = 96;
  a.vocab_size = 300;
  a.hidden_size = 256;
  a.num_heads = a.num_kv_heads = 2;
  const auto file = folder / "random.gguf";
  convert_to_gguf(RandomSource(a, DataType::kQ4_K), file);
  const ModelSummary summary = summarize_model(file);
  EXPECT_TRUE(summary.runs) << summary.why_not;
  EXPECT_TRUE(summary.types.contains("Q4_K"));
  EXPECT_TRUE(summary.types.contains("Q5_0")) << "rows of 96 values are no whole blocks of Q4_K";
  EXPECT_EQ(summary.parameters, static_cast<int64_t>(std::llround(billions(a) * 1e9)));
  Decoder model = load_published(ModelFile(file), WeightStorage::kMapped);
  const Tensor hidden = model.forward({.tokens = at::arange(12).unsqueeze(0)}).hidden;
  EXPECT_TRUE(at::isfinite(hidden).all().item<bool>());
  EXPECT_GT(hidden.std(1).min().item<double>(), 0.01) << "tokens differ";
}

}  // namespace
}  // namespace gatewright

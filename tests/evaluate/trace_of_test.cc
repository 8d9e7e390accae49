#include "gatewright/evaluate/trace_of.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;

/// Two sequences of three tokens; the last token is filling.
PackedBatch small_batch() {
  return {.sequences = 2,
          .length = 3,
          .tokens = {5, 6, 7, 8, 9, 0},
          .targets = {6, 7, 8, 9, 10, -1},
          .first_key = {0, 0, 0, 0, 0, 0},
          .domain = {0, 0, 1, 1, 1, 1},
          .bytes = 5,
          .domain_bytes = {2, 3}};
}

DecoderOutput output_for(Decoder& model, const PackedBatch& packed) {
  const at::NoGradGuard no_grad;
  const Tensor tokens = at::tensor(std::vector<int64_t>(packed.tokens.begin(), packed.tokens.end()));
  return model.forward({.tokens = tokens.view({packed.sequences, packed.length})});
}

TEST(TraceHeader, HoldsTheRoutedLayersWithTheirNumbers) {
  DecoderSpec spec = tiny_spec(3);
  spec.layers[1] = {.routed = false, .dense_width = 8};
  spec.layers[2].num_experts = 6;
  const TraceHeader header = trace_header(spec, {"a"});
  EXPECT_EQ(header.vocab_size, 40);
  EXPECT_THAT(header.domains, ElementsAre("a"));
  ASSERT_EQ(header.layers.size(), 2u);
  EXPECT_EQ(header.layers[0].layer, 0);
  EXPECT_EQ(header.layers[1].layer, 2);
  EXPECT_EQ(header.layers[1].num_experts, 6);
}

TEST(TraceOf, IsWhatEachTokenVisitedWithoutTheFilling) {
  Decoder model(tiny_spec(2), 1);
  const PackedBatch packed = small_batch();
  const DecoderOutput output = output_for(model, packed);
  const TraceBatch trace = trace_of(packed, output.routing);
  EXPECT_THAT(trace.token, ElementsAre(5, 6, 7, 8, 9));
  EXPECT_THAT(trace.domain, ElementsAre(0, 0, 1, 1, 1));
  ASSERT_EQ(trace.layers.size(), 2u);
  for (size_t l = 0; l < 2; ++l) {
    const Tensor& probabilities = output.routing[l].scores.probabilities;
    const LayerTrace& layer = trace.layers[l];
    EXPECT_THAT(layer.row_begin, ElementsAre(0, 2, 4, 6, 8, 10));
    for (int64_t t = 0; t < 5; ++t) {
      // The two most likely experts by hand, their weights divided by their sum, the margin to the third.
      const auto sorted = probabilities[t].sort(/*dim=*/0, /*descending=*/true);
      const Tensor value = std::get<0>(sorted), id = std::get<1>(sorted);
      const double sum = (value[0] + value[1]).item<double>();
      std::map<int32_t, double> expected;
      for (int k = 0; k < 2; ++k)
        expected[static_cast<int32_t>(id[k].item<int64_t>())] = value[k].item<double>() / sum;
      auto it = expected.begin();
      for (size_t n = static_cast<size_t>(2 * t); n < static_cast<size_t>(2 * t + 2); ++n, ++it) {
        EXPECT_EQ(layer.expert[n], it->first);
        EXPECT_NEAR(layer.weight[n], it->second, 1e-5);
      }
      EXPECT_NEAR(layer.margin[static_cast<size_t>(t)], (value[1] - value[2]).item<double>(), 1e-5);
    }
  }
}

TEST(TraceOf, TokensMayVisitAnyNumberOfExperts) {
  DecoderSpec spec = tiny_spec(1);
  spec.layers[0].router.selector =
      make_piece(choice::selectors(), "threshold", {{"threshold", 0.25}, {"min_experts", int64_t{0}}});
  Decoder model(spec, 1);
  const PackedBatch packed = small_batch();
  const DecoderOutput output = output_for(model, packed);
  const LayerTrace layer = trace_of(packed, output.routing).layers[0];
  const Tensor probabilities = output.routing[0].scores.probabilities;
  std::vector<int32_t> expected;
  for (int64_t t = 0; t < 5; ++t)
    for (int32_t e = 0; e < 4; ++e)
      if (probabilities[t][e].item<float>() >= 0.25f) expected.push_back(e);
  EXPECT_EQ(layer.expert, expected);
}

TEST(TraceOf, IsWrittenAndReadBack) {
  Decoder model(tiny_spec(2), 1);
  const PackedBatch packed = small_batch();
  const TraceBatch trace = trace_of(packed, output_for(model, packed).routing);
  const TemporaryFolder folder;
  TraceWriter writer(folder / "t", trace_header(model.spec(), {"a", "b"}));
  writer.add(trace);
  writer.finish();
  TraceReader reader(folder / "t");
  const auto again = reader.next();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->layers[1].expert, trace.layers[1].expert);
  EXPECT_EQ(again->layers[1].weight, trace.layers[1].weight);
}

}  // namespace
}  // namespace gatewright

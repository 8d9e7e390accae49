#include "gatewright/formats/routing_trace.h"

#include <gmock/gmock.h>
#include <zstd.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "gatewright/base/file.h"
#include "gatewright/base/random.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const float kNoChoice = std::numeric_limits<float>::quiet_NaN();

TraceHeader small_header() {
  return {.layers = {{.layer = 1, .num_experts = 4}, {.layer = 3, .num_experts = 2}},
          .domains = {"books", "caf\xc3\xa9"},
          .vocab_size = 10};
}

/// Three tokens. In layer 1: experts 0 and 2, none, 3. In layer 3: all, 1, 0.
TraceBatch small_batch() {
  return {.token = {9, 0, 4},
          .domain = {0, -1, 1},
          .layers = {{.row_begin = {0, 2, 2, 3},
                      .expert = {0, 2, 3},
                      .weight = {0.75f, 0.25f, 1.0f},
                      .margin = {0.5f, -0.25f, 2.0f}},
                     {.row_begin = {0, 2, 3, 4},
                      .expert = {0, 1, 1, 0},
                      .weight = {0.5f, 0.5f, 1.0f, 1.0f},
                      .margin = {kNoChoice, 0.0f, 1.0f}}}};
}

/// Equal bit for bit, NaN included.
bool same_floats(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void expect_same(const TraceBatch& a, const TraceBatch& b) {
  EXPECT_EQ(a.token, b.token);
  EXPECT_EQ(a.domain, b.domain);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].row_begin, b.layers[l].row_begin);
    EXPECT_EQ(a.layers[l].expert, b.layers[l].expert);
    EXPECT_TRUE(same_floats(a.layers[l].weight, b.layers[l].weight));
    EXPECT_TRUE(same_floats(a.layers[l].margin, b.layers[l].margin));
  }
}

std::string trace_bytes(const TraceHeader& header, const std::vector<TraceBatch>& batches) {
  const TemporaryFolder folder;
  TraceWriter writer(folder / "t", header);
  for (const TraceBatch& b : batches) writer.add(b);
  writer.finish();
  return read_file(folder / "t");
}

std::vector<TraceBatch> read_all(const std::string& bytes) {
  TraceReader reader(std::as_bytes(std::span(bytes)), "run.trace");
  std::vector<TraceBatch> batches;
  while (auto batch = reader.next()) batches.push_back(std::move(*batch));
  EXPECT_FALSE(reader.next()) << "the end stays the end";
  return batches;
}

std::string trace_refusal(const std::string& bytes) {
  std::string message = error_of([&] { read_all(bytes); });
  EXPECT_THAT(message, HasSubstr("run.trace"));
  return message;
}

TEST(RoutingTrace, WhatIsWrittenIsReadBackBitForBit) {
  const std::string bytes = trace_bytes(small_header(), {small_batch(), small_batch()});
  TraceReader reader(std::as_bytes(std::span(bytes)), "t");
  EXPECT_EQ(reader.header().vocab_size, 10);
  EXPECT_EQ(reader.header().domains, small_header().domains);
  ASSERT_EQ(reader.header().layers.size(), 2u);
  EXPECT_EQ(reader.header().layers[1].layer, 3);
  EXPECT_EQ(reader.header().layers[1].num_experts, 2);
  const auto batches = read_all(bytes);
  ASSERT_EQ(batches.size(), 2u);
  expect_same(batches[0], small_batch());
  expect_same(batches[1], small_batch());
}

TEST(RoutingTrace, MayHaveNoBatchesNoLayersAndEmptyBatches) {
  EXPECT_THAT(read_all(trace_bytes(small_header(), {})), IsEmpty());
  EXPECT_THAT(read_all(trace_bytes({.vocab_size = 5}, {})), IsEmpty());
  const auto batches = read_all(trace_bytes({.vocab_size = 5}, {{.token = {4}, .domain = {-1}}}));
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].token, ElementsAre(4));
  EXPECT_THAT(read_all(trace_bytes(small_header(), {{.layers = {{}, {}}}})), IsEmpty());
}

TraceBatch random_batch(const TraceHeader& header, size_t tokens, RandomStream& random) {
  TraceBatch batch;
  for (size_t t = 0; t < tokens; ++t) {
    batch.token.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(header.vocab_size))));
    batch.domain.push_back(static_cast<int32_t>(random.below(header.domains.size() + 1)) - 1);
  }
  for (const TraceLayer& of : header.layers) {
    LayerTrace layer;
    for (size_t t = 0; t < tokens; ++t) {
      for (int32_t e = 0; e < of.num_experts; ++e) {
        if (random.uniform() < 0.4f) {
          layer.expert.push_back(e);
          layer.weight.push_back(random.normal());
        }
      }
      layer.row_begin.push_back(static_cast<int64_t>(layer.expert.size()));
      layer.margin.push_back(random.normal());
    }
    batch.layers.push_back(layer);
  }
  return batch;
}

/// All tokens of several batches as one.
TraceBatch joined(const std::vector<TraceBatch>& batches) {
  TraceBatch all = batches.front();
  for (size_t b = 1; b < batches.size(); ++b) {
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(all.token, batches[b].token);
    append(all.domain, batches[b].domain);
    for (size_t l = 0; l < all.layers.size(); ++l) {
      LayerTrace& to = all.layers[l];
      const LayerTrace& from = batches[b].layers[l];
      const int64_t before = to.row_begin.back();
      for (size_t t = 1; t < from.row_begin.size(); ++t) to.row_begin.push_back(before + from.row_begin[t]);
      append(to.expert, from.expert);
      append(to.weight, from.weight);
      append(to.margin, from.margin);
    }
  }
  return all;
}

TEST(RoutingTrace, ALargeBatchComesBackInPiecesThatAreTheSameTokens) {
  RandomStream random(1, "trace");
  const TraceHeader header{.layers = {{.layer = 0, .num_experts = 64}}, .domains = {"a"}, .vocab_size = 1000};
  const TraceBatch large = random_batch(header, 60'000, random);  // about 10 MB before compression
  const auto pieces = read_all(trace_bytes(header, {large}));
  EXPECT_GT(pieces.size(), 1u);
  expect_same(joined(pieces), large);
}

TEST(RoutingTrace, WithoutFinishNothingIsLeft) {
  const TemporaryFolder folder;
  const auto path = folder.write("t", "what was there");
  {
    TraceWriter writer(path, small_header());
    writer.add(small_batch());
  }
  EXPECT_EQ(read_file(path), "what was there");
  EXPECT_THAT(folder.files(), ElementsAre("t"));
}

TEST(RoutingTrace, AFullDiskIsAnErrorAndLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const auto path = folder.write("t", "what was there");
  RandomStream random(1, "trace");
  const TraceBatch batch = random_batch(small_header(), 20'000, random);
  {
    const FileSizeLimit limit(10'000);
    EXPECT_THAT(error_of([&] {
                  TraceWriter writer(path, small_header());
                  writer.add(batch);
                  writer.finish();
                }),
                HasSubstr("cannot write " + path.string()));
  }
  EXPECT_EQ(read_file(path), "what was there");
  EXPECT_THAT(folder.files(), ElementsAre("t"));
}

TEST(RoutingTrace, IsRecognisedByItsBeginning) {
  const TemporaryFolder folder;
  EXPECT_TRUE(is_trace(folder.write("trace", trace_bytes(small_header(), {}))));
  EXPECT_FALSE(is_trace(folder.write("text", "GWTRACE is not enough")));
  EXPECT_FALSE(is_trace(folder.write("empty", "")));
  EXPECT_FALSE(is_trace(folder / "none"));
}

TEST(TraceWriter, RefusesBatchesThatAReaderWouldRefuse) {
  const TemporaryFolder folder;
  TraceWriter writer(folder / "t", small_header());
  const auto refused = [&](const std::function<void(TraceBatch&)>& change) {
    TraceBatch batch = small_batch();
    change(batch);
    return error_of([&] { writer.add(batch); });
  };
  EXPECT_THAT(refused([](TraceBatch& b) { b.token[1] = 10; }), HasSubstr("a token or domain out of range"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.token[1] = -1; }), HasSubstr("out of range"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.domain[1] = 2; }), HasSubstr("out of range"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.domain[1] = -2; }), HasSubstr("out of range"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.layers[1].expert[0] = 2; }), HasSubstr("expert 2 of 2"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.layers[0].expert[1] = 0; }),
              HasSubstr("expert 0 of 4 after expert 0"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.layers.pop_back(); }), HasSubstr("must have 2 layers"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.domain.pop_back(); }), HasSubstr("a domain for each token"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.layers[0].margin.pop_back(); }),
              HasSubstr("does not fit its 3 tokens"));
  EXPECT_THAT(refused([](TraceBatch& b) { b.layers[0].weight.pop_back(); }), HasSubstr("does not fit"));
  EXPECT_THAT(refused([](TraceBatch& b) {
                b.layers[0].row_begin = {0, 3, 2, 3};
              }),
              HasSubstr("does not fit"));
  EXPECT_THAT(refused([](TraceBatch& b) {
                b.layers[0].row_begin = {1, 2, 2, 3};
              }),
              HasSubstr("does not fit"));
  EXPECT_THAT(refused([](TraceBatch& b) {
                b.layers[0].row_begin = {0, 2, 2, 2};
              }),
              HasSubstr("does not fit"));
  writer.add(small_batch());
  writer.finish();
  EXPECT_EQ(read_all(read_file(folder / "t")).size(), 1u);
}

TEST(TraceWriter, KeepsTheRoundsOfALayer) {
  const TraceHeader rounds{.layers = {{.layer = 2, .num_experts = 4},
                                      {.layer = 2, .num_experts = 4, .round = 1},
                                      {.layer = 2, .num_experts = 8, .part = "heads"}},
                           .vocab_size = 3};
  const std::string bytes = trace_bytes(rounds, {});
  EXPECT_THAT(bytes, HasSubstr(R"([{"layer":2,"num_experts":4},{"layer":2,"num_experts":4,"round":1},)"
                               R"({"layer":2,"num_experts":8,"part":"heads"}])"));
  const TraceReader reader(std::as_bytes(std::span(bytes)), "trace");
  EXPECT_EQ(reader.header().layers[0].round, 0);
  EXPECT_EQ(reader.header().layers[1].round, 1);
  EXPECT_EQ(reader.header().layers[1].part, "");
  EXPECT_EQ(reader.header().layers[2].part, "heads");
}

TEST(TraceWriter, RefusesHeadersBeyondTheFormat) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::function<void(TraceHeader&)>& change) {
    TraceHeader header = small_header();
    change(header);
    return error_of([&] { TraceWriter writer(folder / "t", header); });
  };
  EXPECT_THAT(refused([](TraceHeader& h) { h.layers[0].num_experts = 65536; }),
              HasSubstr("layer 1 has 65536 experts, a trace can hold 1 to 65535"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.layers[0].num_experts = 0; }), HasSubstr("0 experts"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.layers[0].layer = -1; }), HasSubstr("layer -1"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.layers[0].round = -1; }), HasSubstr("a round -1"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.domains.assign(40'000, "d"); }), HasSubstr("32767 domains"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.domains = {"a\x1b[31m"}; }), HasSubstr("control characters"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.domains = {std::string(2 << 20, 'x')}; }),
              HasSubstr("too long"));
  EXPECT_THAT(refused([](TraceHeader& h) { h.vocab_size = int64_t{1} << 31; }), HasSubstr("token ids"));
  EXPECT_THAT(folder.files(), IsEmpty());
}

// --- hostile files ---

template <typename T>
std::string raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string with_header(const std::string& json) {
  return "GWTRACE1" + raw(static_cast<uint32_t>(json.size())) + json;
}

const std::string kOneLayer = R"({"vocab_size":10,"domains":[],"layers":[{"layer":0,"num_experts":4}]})";

std::string end_mark(uint64_t batches, uint64_t tokens) { return "END!" + raw(batches) + raw(tokens); }

/// A batch of these bytes, which claims `size` bytes where that is given.
std::string packed(const std::string& content, std::optional<uint32_t> size = {}) {
  std::string out(ZSTD_compressBound(content.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 3));
  return "BTCH" + raw(size.value_or(static_cast<uint32_t>(content.size()))) +
         raw(static_cast<uint32_t>(out.size())) + out;
}

/// One token, visiting `experts`.
std::string one_token(const std::vector<uint16_t>& experts, uint16_t count, int32_t token = 3,
                      int16_t domain = -1) {
  std::string content = raw(uint32_t{1}) + raw(token) + raw(domain) + raw(count);
  for (const uint16_t e : experts) content += raw(e);
  for (size_t i = 0; i < experts.size(); ++i) content += raw(0.5f);
  return content + raw(1.0f);
}

TEST(TraceReader, ReadsAFileMadeByHand) {
  const auto batches = read_all(with_header(kOneLayer) + packed(one_token({1, 3}, 2)) + end_mark(1, 1));
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].token, ElementsAre(3));
  EXPECT_THAT(batches[0].domain, ElementsAre(-1));
  EXPECT_THAT(batches[0].layers[0].expert, ElementsAre(1, 3));
  EXPECT_THAT(batches[0].layers[0].weight, ElementsAre(0.5f, 0.5f));
  EXPECT_THAT(batches[0].layers[0].margin, ElementsAre(1.0f));
}

TEST(TraceReaderRefuses, AFileThatIsCutOffAnywhere) {
  const std::string whole = trace_bytes(small_header(), {small_batch(), small_batch()});
  for (size_t size = 0; size < whole.size(); ++size) trace_refusal(whole.substr(0, size));
  trace_refusal(whole + "x");
}

TEST(TraceReaderRefuses, HeadersThatLie) {
  trace_refusal("GWTRACE1" + raw(~uint32_t{0}) + kOneLayer);
  trace_refusal("GWTRACE2" + raw(uint32_t{2}) + "{}");
  for (const char* json : {
           "",
           "[]",
           "{}",
           "1",
           "null",
           "{\"vocab_size\":10}",
           R"({"vocab_size":1e300,"domains":[],"layers":[]})",
           R"({"vocab_size":10.5,"domains":[],"layers":[]})",
           R"({"vocab_size":-1,"domains":[],"layers":[]})",
           R"({"vocab_size":4294967296,"domains":[],"layers":[]})",
           R"({"vocab_size":18446744073709551615,"domains":[],"layers":[]})",
           R"({"vocab_size":"10","domains":[],"layers":[]})",
           R"({"vocab_size":true,"domains":[],"layers":[]})",
           R"({"vocab_size":10,"domains":[1],"layers":[]})",
           R"({"vocab_size":10,"domains":{},"layers":[]})",
           R"({"vocab_size":10,"domains":["a\u001b[31m"],"layers":[]})",
           R"({"vocab_size":10,"domains":[],"layers":[{}]})",
           R"({"vocab_size":10,"domains":[],"layers":[1]})",
           R"({"vocab_size":10,"domains":[],"layers":[{"layer":0,"num_experts":0}]})",
           R"({"vocab_size":10,"domains":[],"layers":[{"layer":0,"num_experts":65536}]})",
           R"({"vocab_size":10,"domains":[],"layers":[{"layer":0,"num_experts":-1}]})",
           R"({"vocab_size":10,"domains":[],"layers":[{"layer":18446744073709551615,"num_experts":2}]})",
           R"({"vocab_size":10,"domains":[],"layers":[{"layer":0.5,"num_experts":2}]})",
       })
    trace_refusal(with_header(json) + end_mark(0, 0));
  std::string many = R"({"vocab_size":10,"domains":[],"layers":[)";
  for (int i = 0; i <= 4096; ++i) many += (i ? "," : "") + std::string(R"({"layer":0,"num_experts":1})");
  EXPECT_THAT(trace_refusal(with_header(many + "]}") + end_mark(0, 0)), HasSubstr("4096 layers"));
  trace_refusal(with_header(std::string(1 << 20, '[')));
}

TEST(TraceReaderRefuses, CountsThatLie) {
  const auto with_batch = [](const std::string& batch) {
    return with_header(kOneLayer) + batch + end_mark(1, 1);
  };
  EXPECT_EQ(read_all(with_batch(packed(one_token({1, 3}, 2)))).size(), 1u);
  for (const uint16_t count : {0, 1, 3, 65535}) trace_refusal(with_batch(packed(one_token({1, 3}, count))));
  for (const uint32_t tokens : {0u, 2u, 1u << 31, ~0u}) {
    std::string content = one_token({1, 3}, 2);
    std::memcpy(content.data(), &tokens, sizeof tokens);
    trace_refusal(with_batch(packed(content)));
  }
  trace_refusal(with_batch(packed("")));
  trace_refusal(with_batch(packed("123")));
}

TEST(TraceReaderRefuses, SizesThatLie) {
  const std::string begin = with_header(kOneLayer), content = one_token({1, 3}, 2);
  for (const uint32_t size : {0u, 1u, 27u, 29u, 1u << 20, 1u << 31, ~0u})
    trace_refusal(begin + packed(content, size) + end_mark(1, 1));
  for (const uint32_t size : {0u, 1u, 5u, 1000u, ~0u}) {
    std::string batch = packed(content);
    std::memcpy(batch.data() + 8, &size, sizeof size);
    trace_refusal(begin + batch + end_mark(1, 1));
  }
}

TEST(TraceReaderRefuses, AFewBytesThatUnpackToALot) {
  const std::string bomb(64 << 20, '\0');
  const std::string file = with_header(kOneLayer) + packed(bomb) + end_mark(1, 1);
  EXPECT_LT(file.size(), 10'000u);
  EXPECT_THAT(trace_refusal(file), HasSubstr("a batch claims 67108864 bytes"));
}

TEST(TraceReaderRefuses, IdsOutOfRangeAndOutOfOrder) {
  const auto with = [](const std::string& content) {
    return trace_refusal(with_header(kOneLayer) + packed(content) + end_mark(1, 1));
  };
  EXPECT_THAT(with(one_token({1, 4}, 2)), HasSubstr("expert 4 of 4"));
  EXPECT_THAT(with(one_token({1, 65535}, 2)), HasSubstr("expert 65535 of 4"));
  EXPECT_THAT(with(one_token({3, 1}, 2)), HasSubstr("expert 1 of 4 after expert 3"));
  EXPECT_THAT(with(one_token({1, 1}, 2)), HasSubstr("expert 1 of 4 after expert 1"));
  EXPECT_THAT(with(one_token({1}, 1, 10)), HasSubstr("out of range"));
  EXPECT_THAT(with(one_token({1}, 1, -1)), HasSubstr("out of range"));
  EXPECT_THAT(with(one_token({1}, 1, 3, 0)), HasSubstr("out of range"));
  EXPECT_THAT(with(one_token({1}, 1, 3, -2)), HasSubstr("out of range"));
}

TEST(TraceReaderRefuses, AnEndThatDoesNotFit) {
  const std::string begin = with_header(kOneLayer), batch = packed(one_token({1}, 1));
  EXPECT_EQ(read_all(begin + batch + end_mark(1, 1)).size(), 1u);
  trace_refusal(begin + batch + end_mark(0, 1));
  trace_refusal(begin + batch + end_mark(1, 2));
  trace_refusal(begin + batch + end_mark(2, 1));
  trace_refusal(begin + end_mark(1, 1));
  trace_refusal(begin + batch + end_mark(1, 1) + batch);
  trace_refusal(begin + batch + "ENDE" + raw(uint64_t{1}) + raw(uint64_t{1}));
}

TEST(TraceReader, AnyChangedBytesAreRefusedOrGiveAConsistentBatch) {
  const std::string whole = trace_bytes(small_header(), {small_batch(), small_batch()});
  RandomStream random(1, "damage");
  for (int i = 0; i < 20'000; ++i) {
    std::string file = whole;
    for (uint64_t changes = 1 + random.below(3); changes > 0; --changes)
      file[random.below(file.size())] = static_cast<char>(random.below(256));
    try {
      for (const TraceBatch& batch : read_all(file)) {
        for (const LayerTrace& layer : batch.layers)
          ASSERT_EQ(layer.row_begin.back(), static_cast<int64_t>(layer.expert.size()));
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace gatewright

#include "gatewright/formats/quantize.h"

#include <gmock/gmock.h>

#include "gatewright/base/parallel.h"
#include "gatewright/base/random.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/gguf_claims.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// --- rules ---

using Tensors = std::map<std::string, TensorView>;

/// The names and shapes of a small mixture with 16 layers.
Tensors mixture() {
  Tensors tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    tensors[name] = {.name = name, .shape = std::move(shape), .data = {}};
  };
  add("token_embd.weight", {64, 512});
  add("output.weight", {64, 512});
  add("output_norm.weight", {512});
  for (int layer = 0; layer < 16; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    add(blk + "attn_norm.weight", {512});
    add(blk + "attn_q.weight", {512, 512});
    add(blk + "attn_q.bias", {512});
    add(blk + "attn_v.weight", {512, 512});
    add(blk + "ffn_gate_inp.weight", {4, 512});
    add(blk + "ffn_up_exps.weight", {4, 96, 512});
    add(blk + "ffn_down_exps.weight", {4, 512, 96});
  }
  add("position_embd.weight", {16, 512});
  add("enc.blk.0.layer_norm.weight", {2, 512});
  return tensors;
}

std::string choice(const std::string& rules, const std::string& name, const Tensors& tensors = mixture()) {
  const auto chosen = QuantizeRules(rules).choose(tensors.at(name), tensors);
  if (!chosen) return "kept";
  return std::string(data_type_name(chosen->type)) +
         (chosen->wanted ? " for " + std::string(data_type_name(*chosen->wanted)) : "");
}

TEST(QuantizeRules, ALoneTypeIsForMatricesButNotForWhatMustStayExact) {
  EXPECT_EQ(choice("q8_0", "blk.0.attn_q.weight"), "Q8_0");
  EXPECT_EQ(choice("Q8_0", "blk.0.ffn_up_exps.weight"), "Q8_0");
  EXPECT_EQ(choice("q8_0", "token_embd.weight"), "Q8_0");
  for (const char* name :
       {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight",
        "position_embd.weight", "enc.blk.0.layer_norm.weight"})
    EXPECT_EQ(choice("q8_0", name), "kept") << name;
}

TEST(QuantizeRules, TheOutputGetsSixBitsUnlessEightAreAsked) {
  EXPECT_EQ(choice("q4_0", "output.weight"), "Q6_K");
  EXPECT_EQ(choice("q4_0", "token_embd.weight"), "Q4_0");
  EXPECT_EQ(choice("q8_0", "output.weight"), "Q8_0");
  EXPECT_EQ(choice("f16", "output.weight"), "F16");
  Tensors tied = mixture();
  tied.erase("output.weight");
  EXPECT_EQ(choice("q4_0", "token_embd.weight", tied), "Q6_K");
  tied.at("token_embd.weight").shape = {64, 96};
  EXPECT_EQ(choice("q4_0", "token_embd.weight", tied), "Q8_0 for Q6_K");
}

TEST(QuantizeRules, TheFirstPatternThatMatchesDecides) {
  const std::string rules = "ffn_.*_exps=q4_k,blk\\.1\\.=f16,*=q8_0";
  EXPECT_EQ(choice(rules, "blk.1.ffn_up_exps.weight"), "Q4_K");
  EXPECT_EQ(choice(rules, "blk.1.attn_q.weight"), "F16");
  EXPECT_EQ(choice(rules, "blk.2.attn_q.weight"), "Q8_0");
  EXPECT_EQ(choice("ffn_.*_exps=q4_k", "blk.2.attn_q.weight"), "kept");
  EXPECT_EQ(choice("ffn_gate_inp=q8_0", "blk.2.ffn_gate_inp.weight"), "Q8_0") << "who names it, gets it";
  EXPECT_EQ(choice("norm=q8_0", "blk.2.attn_norm.weight"), "kept") << "but not for one dimension";
  EXPECT_EQ(choice("blk\\.[0-9]{1,2}\\.attn_q=q5_k,q8_0", "blk.12.attn_q.weight"), "Q5_K");
  EXPECT_EQ(choice("blk\\.[0-9]{1,2}\\.attn_q=q5_k,q8_0", "blk.12.attn_v.weight"), "Q8_0");
}

TEST(QuantizeRules, RowsThatAreNoWholeBlocksFallBack) {
  EXPECT_EQ(choice("q4_k", "blk.0.ffn_down_exps.weight"), "Q5_0 for Q4_K");
  EXPECT_EQ(choice("q5_k", "blk.0.ffn_down_exps.weight"), "Q5_1 for Q5_K");
  EXPECT_EQ(choice("q6_k", "blk.0.ffn_down_exps.weight"), "Q8_0 for Q6_K");
  Tensors odd = mixture();
  odd.at("blk.0.ffn_down_exps.weight").shape = {4, 512, 40};
  for (const char* type : {"q4_k", "q6_k", "q8_0", "q4_0"})
    EXPECT_THAT(choice(type, "blk.0.ffn_down_exps.weight", odd), HasSubstr("F16 for Q")) << type;
}

TEST(QuantizeRules, TheMixesGiveMoreBitsToTheFirstAndLastEighthAndEveryThirdLayer) {
  std::vector<int> more;
  for (int layer = 0; layer < 16; ++layer)
    if (choice("q4_k_m", "blk." + std::to_string(layer) + ".attn_v.weight") == "Q6_K") more.push_back(layer);
  EXPECT_THAT(more, ElementsAre(0, 1, 4, 7, 10, 13, 14, 15));
  EXPECT_EQ(choice("q4_k_m", "blk.0.attn_q.weight"), "Q4_K");
  EXPECT_EQ(choice("q5_k_m", "blk.0.ffn_down_exps.weight"), "Q8_0 for Q6_K");
  EXPECT_EQ(choice("q4_k_s", "blk.0.attn_v.weight"), "Q4_K");
}

TEST(QuantizeRules, FileTypesAreThoseOfTheFormat) {
  const std::map<std::string, uint32_t> types = {
      {"f32", 0},     {"f16", 1},   {"q4_0", 2},    {"q4_1", 3},  {"q8_0", 7},    {"q5_0", 8},  {"q5_1", 9},
      {"q4_k_s", 14}, {"q4_k", 14}, {"q4_k_m", 15}, {"q5_k", 16}, {"q5_k_m", 17}, {"q6_k", 18}, {"bf16", 32}};
  for (const auto& [name, number] : types) EXPECT_EQ(QuantizeRules(name).file_type(), number) << name;
  EXPECT_EQ(QuantizeRules("exps=q4_k").file_type(), std::nullopt);
  EXPECT_EQ(QuantizeRules("exps=q4_k,*=f32").file_type(), std::nullopt);
}

TEST(QuantizeRules, RefuseWhatCannotBe) {
  const auto refused = [](const std::string& text) { return error_of([&] { QuantizeRules rules(text); }); };
  EXPECT_EQ(refused("q9"),
            "--type: \"q9\" is none of the types that are written: f32, f16, bf16, q8_0, q4_0, q4_1, "
            "q5_0, q5_1, q4_k, q4_k_m, q5_k, q5_k_m, q6_k");
  for (const char* text : {"", ",", "q8_0,", "a=", "=q8_0", "q2_k", "i64", "iq4_nl", "mxfp4", "a=b=c"})
    refused(text);
  EXPECT_THAT(refused("*_exps=q8_0"), HasSubstr("is no regular expression"));
  EXPECT_THAT(refused("(=q8_0"), HasSubstr("--type"));
}

// --- files ---

/// A tensor of random F32 values.
MadeGguf::Tensor random_tensor(const std::string& name, std::vector<uint64_t> dimensions, uint64_t seed) {
  RandomStream random(seed, name);
  uint64_t count = 1;
  for (const uint64_t d : dimensions) count *= d;
  std::string data;
  for (uint64_t i = 0; i < count; ++i) data += raw(random.normal());
  return {.name = name, .dimensions = std::move(dimensions), .type = 0, .data = data};
}

MadeGguf model() {
  return {.keys = {text_key("general.architecture", "strange"), u32_key("strange.block_count", 1),
                   u32_key("strange.expert_count", 3), u32_key("general.file_type", 0)},
          .tensors = {random_tensor("token_embd.weight", {256, 8}, 1),
                      random_tensor("output_norm.weight", {256}, 1),
                      random_tensor("blk.0.attn_q.weight", {256, 12}, 1),
                      random_tensor("blk.0.ffn_gate_inp.weight", {256, 3}, 1),
                      random_tensor("blk.0.ffn_up_exps.weight", {256, 4, 3}, 1),
                      random_tensor("blk.0.ffn_down_exps.weight", {96, 256, 3}, 1)}};
}

QuantizeOptions options(const std::string& rules) { return {.rules = QuantizeRules(rules)}; }

TEST(Quantize, EveryTensorGetsItsTypeAndTheRestKeepsItsBytes) {
  const TemporaryFolder folder;
  const auto in = folder.write("in.gguf", model().bytes());
  const QuantizeReport report = quantize_gguf(in, folder / "out.gguf", options("ffn_down=q4_k,q8_0"));
  const GgufFile before(in), after(folder / "out.gguf");
  EXPECT_EQ(after.order(), before.order());
  const std::map<std::string, DataType> types = {
      {"token_embd.weight", DataType::kQ8_0},        {"output_norm.weight", DataType::kF32},
      {"blk.0.attn_q.weight", DataType::kQ8_0},      {"blk.0.ffn_gate_inp.weight", DataType::kF32},
      {"blk.0.ffn_up_exps.weight", DataType::kQ8_0}, {"blk.0.ffn_down_exps.weight", DataType::kQ5_0}};
  for (const auto& [name, type] : types) {
    const TensorView &old = before.tensor(name), &made = after.tensor(name);
    EXPECT_EQ(made.dtype, type) << name;
    EXPECT_EQ(made.shape, old.shape);
    EXPECT_EQ(std::ranges::equal(made.data, old.data), type == DataType::kF32) << name;
  }
  EXPECT_EQ(after.metadata().integer("general.file_type"), 7);
  EXPECT_EQ(after.metadata().integer("general.quantization_version"), 2);
  EXPECT_EQ(after.metadata().text("general.architecture"), "strange");
  EXPECT_EQ(report.bytes_before, std::filesystem::file_size(in));
  EXPECT_EQ(report.bytes_after, std::filesystem::file_size(folder / "out.gguf"));
  EXPECT_EQ(report.tensors.back().wanted, DataType::kQ4_K) << "the fallback is named";
}

TEST(Quantize, GivesWhatPackGivesWhateverTheThreads) {
  const TemporaryFolder folder;
  MadeGguf made = model();
  made.tensors.push_back(random_tensor("blk.0.wide.weight", {(1 << 16) + 256, 3}, 1));
  const auto in = folder.write("in.gguf", made.bytes());
  const int before = num_threads();
  std::string first;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    quantize_gguf(in, folder / "out.gguf", options("q4_k"));
    const std::string bytes = read_file(folder / "out.gguf");
    if (first.empty()) first = bytes;
    EXPECT_EQ(bytes, first);
  }
  set_num_threads(before);
  const GgufFile source(in), result(folder / "out.gguf");
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.wide.weight", "blk.0.ffn_up_exps.weight"}) {
    const TensorView& t = source.tensor(name);
    std::vector<float> values(t.data.size() / 4);
    unpack(t.dtype, t.data, values);
    std::vector<std::byte> packed(static_cast<size_t>(tensor_bytes(DataType::kQ4_K, t.shape, name)));
    pack(DataType::kQ4_K, values, t.shape.back(), {}, packed);
    EXPECT_TRUE(std::ranges::equal(packed, result.tensor(name).data)) << name;
  }
}

TEST(Quantize, ImportanceIsThatOfEachExpertAndNoExpertIsSkippedSilently) {
  const TemporaryFolder folder;
  const auto in = folder.write("in.gguf", model().bytes());
  ImportanceMatrix matrix;
  ColumnSums sums = {.columns = 256, .matrices = 3, .squares = std::vector<float>(768), .counts = {10, 0, 2}};
  RandomStream random(1, "sums");
  for (size_t i = 0; i < 256; ++i) {
    sums.squares[i] = random.uniform();
    sums.squares[512 + i] = 100 * random.uniform();
  }
  matrix.weights["blk.0.ffn_up_exps.weight"] = sums;
  QuantizeOptions with = options("q4_k");
  with.importance = &matrix;
  const QuantizeReport report = quantize_gguf(in, folder / "out.gguf", with);
  const GgufFile source(in), result(folder / "out.gguf");
  const TensorView &t = source.tensor("blk.0.ffn_up_exps.weight"), &made = result.tensor(t.name);
  const size_t expert = 4 * 256, packed_expert = 4 * 144;
  for (int64_t e = 0; e < 3; ++e) {
    std::vector<float> values(expert);
    unpack(t.dtype, t.data.subspan(4 * expert * static_cast<size_t>(e), 4 * expert), values);
    std::vector<std::byte> packed(packed_expert);
    pack(DataType::kQ4_K, values, 256, sums.importance(e), packed);
    EXPECT_TRUE(
        std::ranges::equal(packed, made.data.subspan(packed_expert * static_cast<size_t>(e), packed_expert)))
        << "expert " << e;
  }
  for (const QuantizedTensor& q : report.tensors) {
    if (q.name == t.name) {
      EXPECT_THAT(*q.seen, ElementsAre(10, 0, 2));
      EXPECT_THAT(q.unseen(), ElementsAre(1));
    } else if (q.name == "blk.0.attn_q.weight") {
      EXPECT_THAT(*q.seen, IsEmpty()) << "the matrix does not know it";
    } else if (q.name == "output_norm.weight") {
      EXPECT_FALSE(q.seen);
    }
  }
  matrix.weights.at("blk.0.ffn_up_exps.weight").columns = 128;
  EXPECT_THAT(error_of([&] { quantize_gguf(in, folder / "other.gguf", with); }),
              HasSubstr("of another model"));
  EXPECT_FALSE(std::filesystem::exists(folder / "other.gguf"));
}

TEST(Quantize, ADryRunReportsTheSameAndWritesNothing) {
  const TemporaryFolder folder;
  const auto in = folder.write("in.gguf", model().bytes());
  QuantizeOptions dry = options("q6_k");
  dry.dry_run = true;
  const QuantizeReport report = quantize_gguf(in, folder / "out.gguf", dry);
  EXPECT_THAT(folder.files(), ElementsAre("in.gguf"));
  quantize_gguf(in, folder / "out.gguf", options("q6_k"));
  EXPECT_EQ(report.bytes_after, std::filesystem::file_size(folder / "out.gguf"));
}

TEST(Quantize, PackedTensorsMayBecomeOthersAndMayReplaceTheirOwnFile) {
  const TemporaryFolder folder;
  const auto path = folder.write("m.gguf", model().bytes());
  quantize_gguf(path, path, options("q4_0"));
  quantize_gguf(path, path, options("*=f32"));
  const GgufFile file(path);
  for (const auto& [name, view] : file.tensors()) EXPECT_EQ(view.dtype, DataType::kF32) << name;
  EXPECT_EQ(file.metadata().integer("general.file_type"), 0);
}

TEST(Quantize, ASplitModelBecomesOneFile) {
  const TemporaryFolder folder;
  for (int part = 0; part < 2; ++part) {
    MadeGguf made = model();
    const auto half = made.tensors.begin() + 3;
    if (part == 0)
      made.tensors.erase(half, made.tensors.end());
    else
      made.tensors.erase(made.tensors.begin(), half);
    if (part > 0) made.keys.clear();
    made.keys.push_back(raw_key("split.no", 2, raw(static_cast<uint16_t>(part))));
    made.keys.push_back(raw_key("split.count", 2, raw(uint16_t{2})));
    made.keys.push_back(raw_key("split.tensors.count", 5, raw(int32_t{6})));
    folder.write("m-0000" + std::to_string(part + 1) + "-of-00002.gguf", made.bytes());
  }
  quantize_gguf(folder / "m-00002-of-00002.gguf", folder / "out.gguf", options("q8_0"));
  const GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.tensors().size(), 6u);
  EXPECT_FALSE(file.metadata().contains("split.count"));
}

TEST(Quantize, ProgressReachesTheEndAndWhatItThrowsLeavesNothing) {
  const TemporaryFolder folder;
  const auto in = folder.write("in.gguf", model().bytes());
  QuantizeOptions watched = options("q8_0");
  uint64_t last = 0, all = 0;
  watched.progress = [&](uint64_t done, uint64_t total, std::string_view) {
    EXPECT_GT(done, last);
    last = done;
    all = total;
  };
  quantize_gguf(in, folder / "out.gguf", watched);
  EXPECT_EQ(last, all);
  watched.progress = [](uint64_t, uint64_t, std::string_view) { fail("interrupted"); };
  EXPECT_THAT(error_of([&] { quantize_gguf(in, folder / "two.gguf", watched); }), HasSubstr("interrupted"));
  EXPECT_THAT(folder.files(), ElementsAre("in.gguf", "out.gguf"));
}

TEST(Quantize, NamesTheTensorThatCannotBeQuantised) {
  const TemporaryFolder folder;
  MadeGguf made = model();
  made.tensors[2].data.replace(40, 4, raw(1.0F / 0.0F));
  const auto in = folder.write("in.gguf", made.bytes());
  EXPECT_THAT(error_of([&] { quantize_gguf(in, folder / "out.gguf", options("q8_0")); }),
              AllOf(HasSubstr("\"blk.0.attn_q.weight\""), HasSubstr("infinite")));
  EXPECT_THAT(folder.files(), ElementsAre("in.gguf"));
}

// --- keys that disagree with the tensors ---

std::vector<std::string> problems(const std::function<void(MadeGguf&)>& change) {
  MadeGguf made = model();
  change(made);
  const std::string bytes = made.bytes();
  const Gguf gguf = parse_gguf(std::as_bytes(std::span(bytes)), "model.gguf");
  return disagreements(gguf.metadata, gguf.tensors);
}

TEST(Disagreements, AreNamedOneByOne) {
  EXPECT_THAT(problems([](MadeGguf&) {}), IsEmpty());
  EXPECT_THAT(problems([](MadeGguf& m) { m.keys[1] = u32_key("strange.block_count", 1U << 31); }),
              ElementsAre("strange.block_count is 2147483648, but the tensors are of 1 layers"));
  EXPECT_THAT(problems([](MadeGguf& m) { m.keys[2] = u32_key("strange.expert_count", 4096); }),
              ElementsAre("strange.expert_count is 4096, but the tensors hold 3 experts"));
  EXPECT_THAT(problems([](MadeGguf& m) { m.keys.push_back(u32_key("strange.attention.head_count", 0)); }),
              ElementsAre(HasSubstr("head_count is 0")));
  EXPECT_THAT(problems([](MadeGguf& m) { m.keys.push_back(u32_key("strange.expert_used_count", 9)); }),
              ElementsAre("strange.expert_used_count is 9 of 3 experts"));
  EXPECT_THAT(
      problems([](MadeGguf& m) { m.keys.push_back(array_key("tokenizer.ggml.scores", 0, 8, "12345678")); }),
      ElementsAre(HasSubstr("tokenizer.ggml.scores")));
  EXPECT_THAT(problems([](MadeGguf& m) {
                m.keys.push_back(array_key("tokenizer.ggml.tokens", 8, 1, raw_string("a")));
                m.keys.push_back(array_key("tokenizer.ggml.token_type", 5, 2, "12345678"));
              }),
              ElementsAre("tokenizer.ggml.token_type has 2 values for 1 tokens"));
  EXPECT_THAT(problems([](MadeGguf& m) { m.keys[0] = u32_key("general.architecture", 1); }),
              ElementsAre(HasSubstr("general.architecture")));
  EXPECT_THAT(problems([](MadeGguf& m) { m.tensors[2].name = "blk.9223372036854775807.x"; }), IsEmpty());
}

TEST(Disagreements, StopQuantisingBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  MadeGguf made = model();
  made.keys[1] = u32_key("strange.block_count", 9);
  const auto in = folder.write("in.gguf", made.bytes());
  EXPECT_THAT(error_of([&] { quantize_gguf(in, folder / "out.gguf", options("q8_0")); }),
              AllOf(HasSubstr("in.gguf"), HasSubstr("block_count is 9")));
  EXPECT_THAT(folder.files(), ElementsAre("in.gguf"));
}

}  // namespace
}  // namespace gatewright

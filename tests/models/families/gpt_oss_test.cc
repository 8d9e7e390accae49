// GPT-OSS as it is published: experts in MXFP4, "_blocks" and "_scales" beside each other, with gate and up
// interleaved row by row.
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <map>

#include "gatewright/base/json.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/published_model.h"
#include "tests/models/families/random_model.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

constexpr int64_t kExperts = 4, kWidth = 64, kHidden = 64;

/// Rows of two blocks in both of an expert's matrices.
Architecture architecture() {
  Architecture a = tiny_architecture("gpt_oss");
  a.hidden_size = kHidden;
  for (ArchitectureLayer& layer : a.layers) layer.routed->width = kWidth;
  return a;
}

/// A stack [experts, rows, columns] as published, and its values.
struct Stack {
  int64_t rows, columns;
  std::vector<uint8_t> blocks = {}, scales = {};  // [E, rows, columns / 32, 16] and [E, rows, columns / 32]

  Stack(const std::string& name, int64_t num_rows, int64_t num_columns)
      : rows(num_rows), columns(num_columns) {
    RandomStream random(3, name);
    const auto count = static_cast<size_t>(kExperts * rows * columns / 32);
    for (size_t i = 0; i < count * 16; ++i) blocks.push_back(static_cast<uint8_t>(random.below(256)));
    for (size_t i = 0; i < count; ++i) scales.push_back(static_cast<uint8_t>(122 + random.below(4)));
  }

  /// By the definition: byte i of a block has element 2 i in its low half and 2 i + 1 in the high one.
  float value(int64_t expert, int64_t row, int64_t column) const {
    constexpr std::array<float, 8> kMagnitude = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const auto block = static_cast<size_t>(((expert * rows + row) * columns + column) / 32);
    const uint8_t byte = blocks[block * 16 + static_cast<size_t>(column % 32 / 2)];
    const int nibble = column % 2 == 0 ? byte & 15 : byte >> 4;
    const float magnitude = std::ldexp(kMagnitude[static_cast<size_t>(nibble & 7)], scales[block] - 127);
    return nibble & 8 ? -magnitude : magnitude;
  }

  /// As Transformers has it in floats: [E, columns, rows].
  std::vector<float> transposed() const {
    std::vector<float> values;
    for (int64_t e = 0; e < kExperts; ++e)
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t r = 0; r < rows; ++r) values.push_back(value(e, r, c));
    return values;
  }
};

/// The same model in three folders' worth of files: floats, and as published.
class GptOss : public testing::Test {
 protected:
  GptOss() {
    convert_to_folder(RandomModel(architecture()), folder_ / "random");
    const SafetensorsFolder random(folder_ / "random");
    std::map<std::string, Stack> stacks;
    std::map<std::string, std::vector<float>> values;
    std::vector<TensorView> published, floats;
    for (const auto& [name, view] : random.tensors()) {
      const bool down = name.ends_with("experts.down_proj");
      if (!down && !name.ends_with("experts.gate_up_proj")) {
        published.push_back(view);
        floats.push_back(view);
        continue;
      }
      const Stack& stack =
          stacks.emplace(name, down ? Stack(name, kHidden, kWidth) : Stack(name, 2 * kWidth, kHidden))
              .first->second;
      const std::vector<float>& plain = values[name] = stack.transposed();
      const int64_t blocks = stack.columns / 32;
      published.push_back({.name = name + "_blocks",
                           .dtype = DataType::kU8,
                           .shape = {kExperts, stack.rows, blocks, 16},
                           .data = std::as_bytes(std::span(stack.blocks))});
      published.push_back({.name = name + "_scales",
                           .dtype = DataType::kU8,
                           .shape = {kExperts, stack.rows, blocks},
                           .data = std::as_bytes(std::span(stack.scales))});
      EXPECT_EQ(view.shape, (std::vector<int64_t>{kExperts, stack.columns, stack.rows}));
      floats.push_back({.name = name, .shape = view.shape, .data = std::as_bytes(std::span(plain))});
    }
    EXPECT_EQ(stacks.size(), 6u) << "two in each of three layers";
    OrderedJson config = OrderedJson::parse(read_file(folder_ / "random/config.json"));
    write("floats", floats, config);
    config["quantization_config"] = {{"quant_method", "mxfp4"},
                                     {"modules_to_not_convert", {"model.layers.*.self_attn"}}};
    write("published", published, config);
  }

  void write(const std::string& name, const std::vector<TensorView>& tensors,
             const OrderedJson& config) const {
    make_folder(folder_ / name);
    write_safetensors(folder_ / name / "model.safetensors", tensors, {{"format", "pt"}});
    write_file(folder_ / name / "config.json", config.dump());
  }

  static Tensor logits_of(Decoder& model) {
    const at::NoGradGuard no_grad;
    const std::vector<int64_t> tokens = {1, 5, 9, 13, 2, 60, 7, 7, 33, 21, 4, 40};
    return model.logits(model.forward({.tokens = at::tensor(tokens).unsqueeze(0)}).hidden[0]);
  }
  Tensor logits_of(const std::string& name) const {
    Decoder model = load_published(ModelFile(folder_ / name), WeightStorage::kMapped);
    return logits_of(model);
  }

  TemporaryFolder folder_;
};

/// As numbers, so that the two zeros are one.
std::span<const float> floats_of(const TensorView& view) {
  EXPECT_EQ(view.dtype, DataType::kF32) << view.name;
  return {reinterpret_cast<const float*>(view.data.data()), view.data.size() / sizeof(float)};
}

TEST_F(GptOss, ThePublishedLayoutGivesWhatItsValuesGive) {
  const ModelFile file(folder_ / "published");
  EXPECT_EQ(file.type_of(file.tensor("model.layers.0.mlp.experts.{}.gate_proj.weight")), DataType::kMXFP4);
  Decoder model = load_published(file, WeightStorage::kMapped);
  int64_t packed = 0;
  for (const NamedTensor& p : model.parameters()) packed += is_packed(p.tensor);
  EXPECT_EQ(packed, 9) << "three stacks in each of three layers stay packed";
  EXPECT_LT((logits_of(model) - logits_of("floats")).abs().max().item<double>(), 1e-4);
}

TEST_F(GptOss, EveryValueIsReadFromItsPlace) {
  const ModelFile published(folder_ / "published"), floats(folder_ / "floats");
  for (const ModelTensor& tensor : published.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.rows() * tensor.columns())), expected = values;
    published.read_values(tensor, 0, tensor.rows(), values);
    floats.read_values(floats.tensor(tensor.name), 0, tensor.rows(), expected);
    EXPECT_EQ(values, expected) << tensor.name;
  }
}

TEST_F(GptOss, GgufKeepsItsBlocksAndGivesTheSameLogitsBitForBit) {
  convert_to_gguf(ModelFile(folder_ / "published"), folder_ / "model.gguf");
  const GgufFile gguf(folder_ / "model.gguf");
  for (const char* name : {"gate", "up", "down"})
    EXPECT_EQ(gguf.tensor(fmt::format("blk.1.ffn_{}_exps.weight", name)).dtype, DataType::kMXFP4) << name;
  EXPECT_TRUE(at::equal(logits_of("model.gguf"), logits_of("published")));
}

TEST_F(GptOss, AFolderWithoutPackedTypesSaysNothingOfThem) {
  convert_to_gguf(ModelFile(folder_ / "published"), folder_ / "model.gguf");
  convert_to_folder(ModelFile(folder_ / "model.gguf"), folder_ / "back");
  convert_to_folder(ModelFile(folder_ / "published"), folder_ / "straight");
  const SafetensorsFolder floats(folder_ / "floats");
  for (const char* name : {"back", "straight"}) {
    const SafetensorsFolder there(folder_ / name);
    for (const auto& [tensor, view] : floats.tensors())
      EXPECT_TRUE(std::ranges::equal(floats_of(there.tensor(tensor)), floats_of(view)))
          << name << " " << tensor;
    EXPECT_FALSE(Json::parse(read_file(folder_ / name / "config.json")).contains("quantization_config"))
        << name << ": Transformers would look for blocks";
  }
}

TEST_F(GptOss, BlocksWithoutScalesAreRefused) {
  const SafetensorsFolder published(folder_ / "published");
  std::vector<TensorView> some;
  for (const auto& [name, view] : published.tensors()) {
    if (name != "model.layers.1.mlp.experts.down_proj_scales") some.push_back(view);
  }
  write("half", some, OrderedJson::parse(read_file(folder_ / "published/config.json")));
  EXPECT_THAT(error_of([&] { ModelFile(folder_ / "half"); }),
              testing::HasSubstr("model.layers.1.mlp.experts.down_proj"));
}

}  // namespace
}  // namespace gatewright

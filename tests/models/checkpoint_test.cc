#include "gatewright/models/checkpoint.h"

#include <gmock/gmock.h>

#include "gatewright/base/file.h"
#include "gatewright/formats/safetensors.h"
#include "gatewright/models/configuration_json.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// A safetensors file's tensors, to be changed and written again.
class Weights {
 public:
  explicit Weights(const std::filesystem::path& path) : path_(path) {
    const SafetensorsFile file(path);
    for (const auto& [name, view] : file.tensors()) {
      shapes_[name] = view.shape;
      data_[name] = std::string(reinterpret_cast<const char*>(view.data.data()), view.data.size());
      types_[name] = view.dtype;
    }
  }
  void remove(const std::string& name) { data_.erase(name); }
  void put(const std::string& name, DataType type, const std::vector<int64_t>& shape,
           const std::string& data) {
    types_[name] = type;
    shapes_[name] = shape;
    data_[name] = data;
  }
  const std::string& data(const std::string& name) const { return data_.at(name); }
  const std::vector<int64_t>& shape(const std::string& name) const { return shapes_.at(name); }
  void write() const {
    std::vector<TensorView> views;
    for (const auto& [name, data] : data_)
      views.push_back({.name = name,
                       .dtype = types_.at(name),
                       .shape = shapes_.at(name),
                       .data = std::as_bytes(std::span(data))});
    write_safetensors(path_, views);
  }

 private:
  std::filesystem::path path_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  std::map<std::string, std::string> data_;
  std::map<std::string, DataType> types_;
};

DecoderSpec varied_spec() {
  DecoderSpec spec = tiny_spec(3);
  spec.layers[0] = {.routed = false, .dense_width = 20};
  spec.layers[2].experts = make_piece(expert_banks(), "gelu", {{"width", int64_t{16}}, {"biases", true}});
  spec.layers[2].expert_decorators = {make_piece(expert_bank_decorators(), "shared", {{"gate", true}})};
  spec.layers[2].router.balance = {make_piece(balance_terms(), "loss_free_bias")};
  return spec;
}

void expect_same_weights(const Decoder& a, const Decoder& b) {
  const ParameterList of_a = a.parameters(), of_b = b.parameters();
  ASSERT_EQ(of_a.size(), of_b.size());
  for (size_t i = 0; i < of_a.size(); ++i) {
    EXPECT_EQ(of_a[i].name, of_b[i].name);
    EXPECT_TRUE(at::equal(of_a[i].tensor, of_b[i].tensor)) << of_a[i].name;
  }
}

TEST(Checkpoint, AModelFolderComesBackBitForBit) {
  const TemporaryFolder folder;
  for (const DecoderSpec& spec : {tiny_spec(), tiny_dense_spec(), varied_spec()}) {
    const Decoder model(spec, 7);
    save_model(folder.path(), model, "{}");
    EXPECT_THAT(folder.files(), ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
    EXPECT_EQ(std::filesystem::file_size(folder / "model.safetensors"), model_file_size(model.parameters()));
    Decoder again = load_decoder(folder.path());
    expect_same_weights(again, model);
    Decoder original(spec, 7);
    const Batch batch{.tokens = random_tokens(2, 9, 40, 1)};
    EXPECT_TRUE(at::equal(logits_of(again, batch), logits_of(original, batch)));
  }
}

TEST(Checkpoint, TheSameModelGivesTheSameBytes) {
  const TemporaryFolder a, b;
  save_model(a.path(), Decoder(varied_spec(), 7), "{}");
  save_model(b.path(), Decoder(varied_spec(), 7), "{}");
  for (const std::string& file : a.files()) EXPECT_EQ(read_file(a / file), read_file(b / file)) << file;
  save_model(b.path(), Decoder(varied_spec(), 8), "{}");
  EXPECT_NE(read_file(a / "model.safetensors"), read_file(b / "model.safetensors"));
}

TEST(Checkpoint, TensorsHaveHuggingFacesNamesAndShapes) {
  const TemporaryFolder folder;
  DecoderSpec spec = tiny_spec(1);
  save_model(folder.path(), Decoder(spec, 1), "{}");
  const SafetensorsFile file(folder / "model.safetensors");
  std::map<std::string, std::vector<int64_t>> expected = {
      {"model.embed_tokens.weight", {40, 32}},
      {"model.norm.weight", {32}},
      {"lm_head.weight", {40, 32}},
      {"model.layers.0.input_layernorm.weight", {32}},
      {"model.layers.0.post_attention_layernorm.weight", {32}},
      {"model.layers.0.self_attn.q_proj.weight", {32, 32}},
      {"model.layers.0.self_attn.k_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.v_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.o_proj.weight", {32, 32}},
      {"model.layers.0.self_attn.q_norm.weight", {32}},
      {"model.layers.0.self_attn.k_norm.weight", {16}},
      {"model.layers.0.mlp.gate.weight", {4, 32}},
  };
  for (int e = 0; e < 4; ++e) {
    const std::string expert = "model.layers.0.mlp.experts." + std::to_string(e);
    expected[expert + ".gate_proj.weight"] = expected[expert + ".up_proj.weight"] = {24, 32};
    expected[expert + ".down_proj.weight"] = {32, 24};
  }
  std::map<std::string, std::vector<int64_t>> found;
  for (const auto& [name, view] : file.tensors()) found[name] = view.shape;
  EXPECT_EQ(found, expected);
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}})) << "Transformers refuses a file without it";
}

TEST(Checkpoint, TiedEmbeddingsAreOneTensor) {
  const TemporaryFolder folder;
  DecoderSpec spec = tiny_dense_spec(1);
  spec.tie_word_embeddings = true;
  save_model(folder.path(), Decoder(spec, 1), "{}");
  EXPECT_FALSE(SafetensorsFile(folder / "model.safetensors").tensors().contains("lm_head.weight"));
  EXPECT_TRUE(load_decoder(folder.path()).spec().tie_word_embeddings);
}

TEST(Checkpoint, HalfPrecisionWeightsAreReadExactly) {
  const TemporaryFolder folder;
  save_model(folder.path(), Decoder(tiny_dense_spec(1), 1), "{}");
  Weights weights(folder / "model.safetensors");
  const std::string name = "model.norm.weight";
  std::string brain, half;
  for (int i = 0; i < 32; ++i) {
    brain += std::string("\xc0\x3f", 2);  // bfloat16 1.5
    half += std::string("\x00\xb8", 2);   // float16 -0.5
  }
  weights.put(name, DataType::kBF16, {32}, brain);
  weights.put("model.layers.0.input_layernorm.weight", DataType::kF16, {32}, half);
  weights.write();
  std::map<std::string, Tensor> read;
  for (const NamedTensor& p : load_decoder(folder.path()).parameters()) read[p.name] = p.tensor;
  EXPECT_TRUE(at::equal(read.at(name), at::full({32}, 1.5)));
  EXPECT_TRUE(at::equal(read.at("model.layers.0.input_layernorm.weight"), at::full({32}, -0.5)));
}

/// A saved model whose weights are changed; the one error that loading ends with.
std::string checkpoint_refusal(const std::function<void(Weights&)>& change) {
  const TemporaryFolder folder;
  save_model(folder.path(), Decoder(tiny_spec(1), 1), "{}");
  Weights weights(folder / "model.safetensors");
  change(weights);
  weights.write();
  const std::string message = error_of([&] { load_decoder(folder.path()); });
  EXPECT_THAT(message, HasSubstr((folder / "model.safetensors").string()));
  return message;
}

const std::string kRouter = "model.layers.0.mlp.gate.weight";

TEST(CheckpointRefuses, TensorsThatAreMissing) {
  EXPECT_THAT(checkpoint_refusal([](Weights& w) { w.remove(kRouter); }), HasSubstr(kRouter + " is missing"));
  EXPECT_THAT(checkpoint_refusal([](Weights& w) { w.remove("model.layers.0.mlp.experts.3.up_proj.weight"); }),
              HasSubstr("model.layers.0.mlp.experts.3.up_proj.weight is missing"));
  const std::string both = checkpoint_refusal([](Weights& w) {
    w.remove(kRouter);
    w.remove("lm_head.weight");
  });
  EXPECT_THAT(both, AllOf(HasSubstr(kRouter), HasSubstr("lm_head.weight is missing")));
}

TEST(CheckpointRefuses, TensorsOfAnotherShape) {
  const std::string message = checkpoint_refusal([](Weights& w) {
    w.put(kRouter, DataType::kF32, {32, 4}, w.data(kRouter));
  });
  EXPECT_THAT(message, HasSubstr(kRouter + " has shape [32, 4], [4, 32] is expected"));
  checkpoint_refusal([](Weights& w) { w.put(kRouter, DataType::kF32, {128}, w.data(kRouter)); });
  checkpoint_refusal([](Weights& w) { w.put(kRouter, DataType::kF32, {0, 32}, ""); });
}

TEST(CheckpointRefuses, TensorsTooMany) {
  EXPECT_THAT(checkpoint_refusal([](Weights& w) { w.put("extra", DataType::kF32, {1}, "1234"); }),
              HasSubstr("\"extra\" belongs to no layer or expert"));
  EXPECT_THAT(checkpoint_refusal([](Weights& w) {
                w.put("model.layers.0.mlp.experts.4.up_proj.weight", DataType::kF32, {1}, "1234");
              }),
              HasSubstr("experts.4"));
}

TEST(CheckpointRefuses, TypesThatAreNoWeights) {
  EXPECT_THAT(checkpoint_refusal([](Weights& w) {
                w.put("model.norm.weight", DataType::kI32, {32}, std::string(128, 'x'));
              }),
              HasSubstr("model.norm.weight"));
}

TEST(CheckpointRefuses, ManyProblemsInOneShortMessage) {
  const std::string message = checkpoint_refusal([](Weights& w) {
    for (int e = 0; e < 4; ++e)
      for (const char* part : {"gate", "up", "down"})
        w.remove(fmt::format("model.layers.0.mlp.experts.{}.{}_proj.weight", e, part));
    w.put("padding", DataType::kU8, {40000}, std::string(40000, 'x'));
  });
  EXPECT_THAT(message, HasSubstr("and "));
  EXPECT_LT(message.size(), 1000u);
}

TEST(LoadDecoder, SaysWhatTheFolderLacks) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { load_decoder(folder / "none"); }), HasSubstr("there is no model folder"));
  EXPECT_THAT(error_of([&] { load_decoder(folder.path()); }), HasSubstr("has no model.safetensors"));
  save_model(folder.path(), Decoder(tiny_spec(1), 1), "{}");
  std::filesystem::remove(folder / "config.json");
  EXPECT_THAT(error_of([&] { load_decoder(folder.path()); }), HasSubstr("config.json"));
}

TEST(LoadDecoder, RefusesAConfigurationThatTheWeightsCannotFillBeforeItBuildsAModel) {
  const TemporaryFolder folder;
  save_model(folder.path(), Decoder(tiny_spec(1), 1), "{}");
  Json config = Json::parse(read_file(folder / "config.json"));
  config["hidden_size"] = 1 << 20;  // would take terabytes
  config["vocab_size"] = 1 << 20;
  write_file(folder / "config.json", config.dump());
  EXPECT_THAT(error_of([&] { load_decoder(folder.path()); }),
              AllOf(HasSubstr("config.json describes a model of"), HasSubstr("can't hold")));
}

TEST(SaveModel, AFullDiskLeavesTheOldModel) {
  const TemporaryFolder folder;
  const Decoder before(tiny_spec(1), 1);
  save_model(folder.path(), before, "{}");
  {
    const FileSizeLimit limit(5000);
    EXPECT_THAT(error_of([&] { save_model(folder.path(), Decoder(tiny_spec(1), 2), "{}"); }),
                HasSubstr("cannot write"));
  }
  expect_same_weights(load_decoder(folder.path()), before);
  EXPECT_THAT(folder.files(), ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
}

TEST(WriteWeights, AreReadBackIntoBuffersToo) {
  const TemporaryFolder folder;
  const Tensor value = at::randn({3, 2}), state = at::randn({5});
  write_weights(folder / "f", {{.name = "stack.{}.x", .tensor = value},
                               {.name = "state", .tensor = state, .trainable = false}});
  const Tensor value2 = at::zeros({3, 2}), state2 = at::zeros({5});
  read_weights(folder / "f", {{.name = "stack.{}.x", .tensor = value2},
                              {.name = "state", .tensor = state2, .trainable = false}});
  EXPECT_TRUE(at::equal(value, value2));
  EXPECT_TRUE(at::equal(state, state2));
  EXPECT_TRUE(SafetensorsFile(folder / "f").tensors().contains("stack.2.x"));
}

}  // namespace
}  // namespace gatewright

// BERT from a folder to GGUF and back.
#include "gatewright/models/families/convert_encoder.h"

#include <gmock/gmock.h>

#include "gatewright/formats/gguf.h"
#include "gatewright/formats/safetensors_folder.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "gatewright/text/tokenizer.h"
#include "tests/models/tiny_encoder.h"

namespace gatewright {
namespace {

using testing::Contains;
using testing::HasSubstr;

/// As many pieces as the encoder has rows.
Tokenizer word_pieces() {
  GgufVocabulary v;
  v.model = "bert";
  v.tokens = {"[PAD]", "[CLS]", "[SEP]", "[UNK]"};
  v.types = {3, 3, 3, 3};
  for (int i = 4; i < 30; ++i) {
    v.tokens.push_back("\u2581w" + std::to_string(i));
    v.types.push_back(1);
  }
  v.unknown = 3;
  v.classifier = 1;
  v.separator = 2;
  return Tokenizer(definition_of(v, "the test"), "the test");
}

class ConvertEncoder : public testing::Test {
 protected:
  ConvertEncoder() {
    write_folder(folder_, encoder_.parameters(), configuration());
    std::filesystem::create_directories(folder_ / "hf");
    word_pieces().save(folder_ / "hf/tokenizer.json");
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::rename(folder_ / name, folder_ / "hf" / name);
  }

  const Encoder encoder_ = random_encoder();
  TemporaryFolder folder_;
};

TEST_F(ConvertEncoder, ThereAndBackGivesTheSameEmbeddingsAndTheSameBytes) {
  ASSERT_TRUE(is_encoder(folder_ / "hf"));
  convert_encoder(folder_ / "hf", folder_ / "there.gguf", {});
  ASSERT_TRUE(is_encoder(folder_ / "there.gguf"));
  convert_encoder(folder_ / "there.gguf", folder_ / "back", {});
  convert_encoder(folder_ / "back", folder_ / "again.gguf", {});
  const Tensor expected = encoder_.embed(kTexts);
  for (const char* name : {"hf", "there.gguf", "back", "again.gguf"})
    EXPECT_TRUE(load_encoder(folder_ / name).embed(kTexts).equal(expected)) << name;
  const SafetensorsFolder before(folder_ / "hf"), after(folder_ / "back");
  ASSERT_EQ(after.tensors().size(), before.tensors().size());
  for (const auto& [name, view] : before.tensors()) {
    EXPECT_EQ(after.tensor(name).shape, view.shape) << name;
    EXPECT_TRUE(std::ranges::equal(after.tensor(name).data, view.data)) << name;
  }
  const Json config = Json::parse(read_file(folder_ / "back/config.json"));
  const Json given = configuration();
  for (const auto& [key, value] : given.items()) EXPECT_EQ(config.at(key), value) << key;
}

TEST_F(ConvertEncoder, TheTokenizerTravelsWithIt) {
  convert_encoder(folder_ / "hf", folder_ / "there.gguf", {});
  convert_encoder(folder_ / "there.gguf", folder_ / "back", {});
  const std::vector<int32_t> expected = {1, 5, 17, 3, 2};
  for (const char* name : {"hf", "there.gguf", "back"})
    EXPECT_EQ(Tokenizer::load(folder_ / name).encode("w5 w17 other", {.add_special = true}), expected)
        << name;
}

TEST_F(ConvertEncoder, MatricesTakeTheTypeAskedForAndVectorsStay) {
  const ConvertReport report =
      convert_encoder(folder_ / "hf", folder_ / "half.gguf", {.type = DataType::kF16});
  const GgufFile half(folder_ / "half.gguf");
  EXPECT_EQ(half.tensor("blk.1.ffn_up.weight").dtype, DataType::kF16);
  EXPECT_EQ(half.tensor("token_embd.weight").dtype, DataType::kF16);
  EXPECT_EQ(half.tensor("blk.1.ffn_up.bias").dtype, DataType::kF32);
  EXPECT_EQ(half.tensor("position_embd.weight").dtype, DataType::kF32);
  EXPECT_EQ(report.bytes, half.file_bytes());
  const Tensor difference = load_encoder(folder_ / "half.gguf").embed(kTexts) - encoder_.embed(kTexts);
  EXPECT_LT(difference.abs().max().item<float>(), 0.01F);
  convert_encoder(folder_ / "half.gguf", folder_ / "full", {.type = DataType::kF32});
  EXPECT_TRUE(
      load_encoder(folder_ / "full").embed(kTexts).equal(load_encoder(folder_ / "half.gguf").embed(kTexts)));
}

TEST_F(ConvertEncoder, WhatAHeadNeedsIsLeftOutAndSaid) {
  ParameterList parameters = encoder_.parameters();
  parameters.push_back({.name = "pooler.dense.weight", .tensor = at::zeros({12, 12})});
  write_folder(folder_, parameters, configuration(), "bert.");
  const ConvertReport report = convert_encoder(folder_.path(), folder_ / "there.gguf", {});
  EXPECT_THAT(report.notes,
              Contains(HasSubstr("1 tensors that sentence embeddings do not use are left out")));
  EXPECT_TRUE(load_encoder(folder_ / "there.gguf").embed(kTexts).equal(encoder_.embed(kTexts)));
}

TEST_F(ConvertEncoder, ADryRunWritesNothing) {
  const std::vector<std::string> before = folder_.files();
  const ConvertReport report = convert_encoder(folder_ / "hf", folder_ / "there.gguf", {.dry_run = true});
  EXPECT_EQ(folder_.files(), before);
  EXPECT_EQ(report.tensors, std::ssize(encoder_.parameters()));
  ASSERT_EQ(report.files.size(), 1u);
  convert_encoder(folder_ / "hf", folder_ / "there.gguf", {});
  EXPECT_EQ(report.files[0].bytes, std::filesystem::file_size(folder_ / "there.gguf"));
}

TEST_F(ConvertEncoder, RefusesToStayInItsFormat) {
  EXPECT_THAT(error_of([&] { convert_encoder(folder_ / "hf", folder_ / "copy", {}); }),
              HasSubstr("from a folder to NAME.gguf, or from a GGUF file to a folder"));
}

}  // namespace
}  // namespace gatewright

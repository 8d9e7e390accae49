#include "gatewright/evaluate/calibration.h"

#include <gmock/gmock.h>

#include "gatewright/experts/product_observer.h"
#include "gatewright/layers/linear.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/published_model.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/tokenized_corpus.h"
#include "tests/models/families/random_model.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

/// One document of the tokens, as one part.
TokenCache cache_of(const TemporaryFolder& folder, const std::string& text, Tokenizer& tokenizer) {
  folder.write("text/a.txt", text);
  const std::filesystem::path path = folder / "text";
  const Corpus corpus = Corpus::read(std::span(&path, 1), {.validation_share = 1});
  return tokenize_corpus(folder.path(), tokenizer, corpus);
}

TEST(Calibration, SumsWhatEachExpertIsMultipliedWith) {
  const TemporaryFolder folder;
  BpeTrainer trainer;
  const std::string text = "one two three, one two four. three one two. four two one three!";
  trainer.add(text);
  Tokenizer tokenizer = trainer.train({.vocab_size = 260}).tokenizer;
  Architecture architecture = tiny_architecture("mixtral");
  architecture.vocab_size = tokenizer.vocab_size();
  const RandomModel source(architecture);
  convert_to_gguf(source, folder / "model.gguf");
  const ModelFile file(folder / "model.gguf");
  Decoder model = load_published(file, WeightStorage::kMapped);
  const TokenCache cache = cache_of(folder, text, tokenizer);
  ValidationStream stream(cache, 16, std::vector<int32_t>(static_cast<size_t>(tokenizer.vocab_size()), 1));
  const ImportanceMatrix matrix = calibrate(model, file.tensors(), stream, 2);

  // By hand: the first layer's queries read normed embeddings.
  std::vector<double> squares(32);
  double tokens = 0, filling = 0;
  stream.rewind();
  for (PackedBatch batch = stream.next(2); batch.sequences > 0; batch = stream.next(2)) {
    for (size_t t = 0; t < batch.tokens.size(); ++t) {
      const int32_t id = batch.tokens[t];
      if (batch.targets[t] < 0) {
        ++filling;
        continue;
      }
      const float* x = source.values("model.embed_tokens.weight").data() + id * 32;
      double mean = 0;
      for (int i = 0; i < 32; ++i) mean += static_cast<double>(x[i]) * static_cast<double>(x[i]) / 32;
      for (size_t i = 0; i < 32; ++i) {
        const double normed = static_cast<double>(x[i]) / std::sqrt(mean + 1e-5) *
                              static_cast<double>(source.values("model.layers.0.input_layernorm.weight")[i]);
        squares[i] += normed * normed;
      }
      ++tokens;
    }
  }
  EXPECT_GT(filling, 0) << "the last sequence is filled up, and nothing of that counts";
  const ColumnSums& query = matrix.weights.at("blk.0.attn_q.weight");
  EXPECT_EQ(query.matrices, 1);
  EXPECT_EQ(static_cast<double>(query.counts[0]), tokens);
  for (size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(static_cast<double>(query.squares[i]), squares[i], 1e-3 * (1 + squares[i]));
  for (const char* name :
       {"blk.2.ffn_gate_exps.weight", "blk.2.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"}) {
    const ColumnSums& experts = matrix.weights.at(name);
    ASSERT_EQ(experts.matrices, 4) << name;
    double pairs = 0;
    for (const float count : experts.counts) pairs += static_cast<double>(count);
    EXPECT_EQ(pairs, 2 * tokens) << "two experts a token";
    EXPECT_EQ(experts.columns, std::string(name).find("down") != std::string::npos ? 24 : 32);
  }
  EXPECT_EQ(static_cast<double>(matrix.weights.at("output.weight").counts[0]), tokens);
  EXPECT_FALSE(matrix.weights.contains("blk.0.ffn_gate_inp.weight")) << "routers are never quantised";
}

TEST(Calibration, NamesExpertsThatSawLittle) {
  ImportanceMatrix matrix;
  matrix.weights = {
      {"blk.3.ffn_up_exps.weight", {.columns = 1, .matrices = 2, .squares = {1, 0}, .counts = {70, 0}}}};
  const std::vector<std::string> lines = little_seen(matrix, 64);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0], "blk.3.ffn_up_exps.weight: expert 1 saw 0 rows");
}

struct Counter : ProductObserver {
  int64_t rows = 0;
  void see(const Tensor&, int64_t, const Tensor& x) override { rows += x.size(0); }
};

TEST(ProductObserver, SeesTheProductsOfWhatItIsHandedTo) {
  const Tensor weight = at::ones({3, 2}), x = at::ones({5, 2});
  Counter first, second;
  linear_layer(x, weight, {}, &first);
  linear_layer(x.narrow(0, 0, 2), weight, {}, &second);
  linear_layer(x, weight);
  EXPECT_EQ(first.rows, 5);
  EXPECT_EQ(second.rows, 2);
}

TEST(ProductObserver, ChangesNothingInWhatAModelSays) {
  for (const char* family : {"llama", "qwen2_moe", "deepseek_v2", "gpt_oss"}) {
    const TemporaryFolder folder;
    convert_to_gguf(RandomModel(tiny_architecture(family)), folder / "model.gguf");
    Decoder model = load_published(ModelFile(folder / "model.gguf"), WeightStorage::kMapped);
    const at::NoGradGuard no_grad;
    const Batch batch{.tokens = at::tensor(std::vector<int64_t>{1, 5, 9, 13, 2}).unsqueeze(0)};
    Counter counter;
    const Tensor seen = model.forward(batch, {.observer = &counter}).hidden;
    EXPECT_LT((seen - model.forward(batch).hidden).abs().max().item<double>(), 1e-5) << family;
    EXPECT_GT(counter.rows, 3 * 5 * 4) << family << ": at least the attention of three layers";
  }
}

}  // namespace
}  // namespace gatewright

// A small encoder with random weights against a forward pass in plain float64 loops.
#include "gatewright/models/encoder.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "gatewright/formats/gguf.h"
#include "gatewright/models/checkpoint.h"
#include "tests/models/tiny_encoder.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Row = std::vector<double>;
using Matrix = std::vector<Row>;

/// The arithmetic of BERT with nothing but loops.
class Reference {
 public:
  explicit Reference(const Encoder& encoder) {
    for (const NamedTensor& p : encoder.parameters())
      weights_[p.name] = p.tensor.to(at::kDouble).contiguous();
  }

  Matrix forward(const std::vector<int32_t>& tokens) const {
    Matrix x;
    for (size_t t = 0; t < tokens.size(); ++t) {
      Row row(kSpec.hidden_size);
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = at("embeddings.word_embeddings.weight", static_cast<size_t>(tokens[t]), i) +
                 at("embeddings.position_embeddings.weight", t, i) +
                 at("embeddings.token_type_embeddings.weight", 0, i);
      x.push_back(normalised(row, "embeddings.LayerNorm"));
    }
    for (int64_t l = 0; l < kSpec.num_layers; ++l) x = layer(x, "encoder.layer." + std::to_string(l) + ".");
    return x;
  }

  Row embedding(const std::vector<int32_t>& tokens) const {
    const Matrix x = forward(tokens);
    Row mean(kSpec.hidden_size);
    double square = 0;
    for (size_t i = 0; i < mean.size(); ++i) {
      for (const Row& row : x) mean[i] += row[i] / static_cast<double>(x.size());
      square += mean[i] * mean[i];
    }
    for (double& value : mean) value /= std::sqrt(square);
    return mean;
  }

 private:
  double at(const std::string& name, size_t row, size_t column) const {
    const Tensor& t = weights_.at(name);
    return t.data_ptr<double>()[row * static_cast<size_t>(t.size(1)) + column];
  }
  double at(const std::string& name, size_t i) const { return weights_.at(name).data_ptr<double>()[i]; }

  Row linear(const Row& x, const std::string& name) const {
    Row y(static_cast<size_t>(weights_.at(name + ".bias").size(0)));
    for (size_t o = 0; o < y.size(); ++o) {
      y[o] = at(name + ".bias", o);
      for (size_t i = 0; i < x.size(); ++i) y[o] += at(name + ".weight", o, i) * x[i];
    }
    return y;
  }

  Row normalised(const Row& x, const std::string& name) const {
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Row y(x.size());
    for (size_t i = 0; i < x.size(); ++i)
      y[i] = (x[i] - mean) / std::sqrt(variance + kSpec.layer_norm_epsilon) * at(name + ".weight", i) +
             at(name + ".bias", i);
    return y;
  }

  static Row sum(Row a, const Row& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  Matrix attention(const Matrix& x, const std::string& layer) const {
    Matrix q, k, v, mixed(x.size(), Row(kSpec.hidden_size));
    for (const Row& row : x) {
      q.push_back(linear(row, layer + "attention.self.query"));
      k.push_back(linear(row, layer + "attention.self.key"));
      v.push_back(linear(row, layer + "attention.self.value"));
    }
    const size_t width = kSpec.hidden_size / kSpec.num_heads;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t head = 0; head < static_cast<size_t>(kSpec.num_heads); ++head) {
        Row share(x.size());
        double all = 0;
        for (size_t s = 0; s < x.size(); ++s) {
          double score = 0;
          for (size_t i = head * width; i < (head + 1) * width; ++i) score += q[t][i] * k[s][i];
          all += share[s] = std::exp(score / std::sqrt(static_cast<double>(width)));
        }
        for (size_t s = 0; s < x.size(); ++s)
          for (size_t i = head * width; i < (head + 1) * width; ++i) mixed[t][i] += share[s] / all * v[s][i];
      }
    }
    for (Row& row : mixed) row = linear(row, layer + "attention.output.dense");
    return mixed;
  }

  Matrix layer(const Matrix& x, const std::string& name) const {
    const Matrix attended = attention(x, name);
    Matrix result;
    for (size_t t = 0; t < x.size(); ++t) {
      const Row middle = normalised(sum(x[t], attended[t]), name + "attention.output.LayerNorm");
      Row inner = linear(middle, name + "intermediate.dense");
      for (double& value : inner) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
      result.push_back(
          normalised(sum(middle, linear(inner, name + "output.dense")), name + "output.LayerNorm"));
    }
    return result;
  }

  std::map<std::string, Tensor> weights_;
};

TEST(Encoder, EqualsAForwardPassInFloat64) {
  const Encoder encoder = random_encoder();
  const Reference reference(encoder);
  for (const std::vector<int32_t>& text : kTexts) {
    const Tensor tokens = at::tensor(std::vector<int64_t>(text.begin(), text.end())).unsqueeze(0);
    const Tensor hidden = encoder.forward(tokens, at::ones_like(tokens).to(at::kBool));
    const Matrix expected = reference.forward(text);
    for (size_t t = 0; t < text.size(); ++t)
      for (size_t i = 0; i < expected[t].size(); ++i)
        EXPECT_NEAR(hidden[0][static_cast<int64_t>(t)][static_cast<int64_t>(i)].item<float>(), expected[t][i],
                    1e-4);
  }
}

TEST(Encoder, EmbedsTextsOfOtherLengthsTogetherAsEachAlone) {
  const Encoder encoder = random_encoder();
  const Reference reference(encoder);
  const Tensor embeddings = encoder.embed(kTexts);
  ASSERT_EQ(embeddings.sizes(), (std::vector<int64_t>{3, 12}));
  for (size_t n = 0; n < kTexts.size(); ++n) {
    const Row expected = reference.embedding(kTexts[n]);
    const Tensor row = embeddings[static_cast<int64_t>(n)];
    EXPECT_NEAR(row.norm().item<float>(), 1, 1e-5);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(row[static_cast<int64_t>(i)].item<float>(), expected[i], 1e-5);
  }
}

TEST(Encoder, RefusesTextsThatItCannotTake) {
  const Encoder encoder = random_encoder();
  const auto error = [&](const std::vector<int32_t>& text) {
    return error_of([&] { encoder.embed(std::vector<std::vector<int32_t>>{text}); });
  };
  EXPECT_EQ(error(std::vector<int32_t>(17, 1)), "a text of 17 tokens, of 1 to 16 are possible");
  EXPECT_THAT(error({}), HasSubstr("a text of no tokens"));
  EXPECT_EQ(error({1, 30}), "token 30 is not in the vocabulary of 30");
  EXPECT_EQ(error({-1}), "token -1 is not in the vocabulary of 30");
}

// --- folders ---

TEST(Encoder, IsReadFromAFolder) {
  const Encoder encoder = random_encoder();
  for (const std::string prefix : {"", "bert."}) {
    const TemporaryFolder folder;
    ParameterList parameters = encoder.parameters();
    parameters.push_back({.name = "pooler.dense.weight", .tensor = at::zeros({12, 12})});
    write_folder(folder, parameters, configuration(), prefix);
    const Encoder again = load_encoder(folder.path());
    EXPECT_TRUE(again.embed(kTexts).equal(encoder.embed(kTexts)));
  }
}

/// Weights of the encoder as a GGUF file with llama.cpp's names.
void write_gguf_encoder(const std::filesystem::path& path, const Encoder& encoder) {
  const std::map<std::string, std::string> names = {{"embeddings.word_embeddings.", "token_embd."},
                                                    {"embeddings.position_embeddings.", "position_embd."},
                                                    {"embeddings.token_type_embeddings.", "token_types."},
                                                    {"embeddings.LayerNorm.", "token_embd_norm."},
                                                    {"attention.self.query.", "attn_q."},
                                                    {"attention.self.key.", "attn_k."},
                                                    {"attention.self.value.", "attn_v."},
                                                    {"attention.output.dense.", "attn_output."},
                                                    {"attention.output.LayerNorm.", "attn_output_norm."},
                                                    {"intermediate.dense.", "ffn_up."},
                                                    {"output.dense.", "ffn_down."},
                                                    {"output.LayerNorm.", "layer_output_norm."}};
  const auto name_of = [&](const std::string& name) {
    constexpr std::string_view layer = "encoder.layer.";
    const bool in_layer = name.starts_with(layer);
    const size_t begin = in_layer ? layer.size() + 2 : 0, end = name.rfind('.') + 1;
    return (in_layer ? "blk." + name.substr(layer.size(), 2) : "") +
           names.at(name.substr(begin, end - begin)) + name.substr(end);
  };
  GgufMetadata keys;
  keys.set("general.architecture", "bert");
  for (const auto& [key, value] : std::map<std::string, uint32_t>{{"block_count", 2},
                                                                  {"context_length", 16},
                                                                  {"embedding_length", 12},
                                                                  {"feed_forward_length", 20},
                                                                  {"attention.head_count", 3},
                                                                  {"pooling_type", 1}})
    keys.set("bert." + key, value);
  keys.set("bert.attention.layer_norm_epsilon", 1e-6F);
  std::vector<TensorPlan> plans;
  for (const NamedTensor& p : encoder.parameters())
    plans.push_back({.name = name_of(p.name),
                     .shape = p.tensor.sizes().vec(),
                     .data = {static_cast<const std::byte*>(p.tensor.data_ptr()),
                              static_cast<size_t>(p.tensor.numel()) * sizeof(float)}});
  write_gguf(path, keys, plans);
}

TEST(Encoder, IsReadFromGguf) {
  const Encoder encoder = random_encoder();
  const TemporaryFolder folder;
  write_gguf_encoder(folder / "bert.gguf", encoder);
  const Tensor difference = load_encoder(folder / "bert.gguf").embed(kTexts) - encoder.embed(kTexts);
  EXPECT_LT(difference.abs().max().item<float>(), 1e-6F);
  EXPECT_THAT(error_of([&] { load_encoder(folder / "none"); }),
              HasSubstr("neither a GGUF file nor a folder"));
}

TEST(Encoder, NamesEachTensorThatDoesNotFit) {
  const TemporaryFolder folder;
  ParameterList parameters = random_encoder().parameters();
  parameters[0].name = "embeddings.words";
  parameters[1].tensor = at::zeros({15, 12});
  write_folder(folder, parameters, configuration());
  EXPECT_THAT(
      error_of([&] { load_encoder(folder.path()); }),
      AllOf(HasSubstr("embeddings.word_embeddings.weight is missing"),
            HasSubstr("embeddings.position_embeddings.weight has shape [15, 12], [16, 12] is expected")));
}

TEST(Encoder, RefusesConfigurationsThatItCannotBe) {
  const auto error = [](const char* key, const Json& value) {
    Json config = configuration();
    config[key] = value;
    return error_of([&] { parse_encoder_config(config.dump(), "config.json"); });
  };
  EXPECT_EQ(error("model_type", "roberta"),
            "config.json: 'model_type' is \"roberta\", supported is \"bert\"");
  EXPECT_THAT(error("hidden_act", "relu"), HasSubstr("'hidden_act' is \"relu\""));
  EXPECT_THAT(error("position_embedding_type", "relative_key"), HasSubstr("supported is \"absolute\""));
  EXPECT_THAT(error("vocab_size", 0), HasSubstr("'vocab_size' must be in [1, "));
  EXPECT_THAT(error("hidden_size", "x"), HasSubstr("'hidden_size' must be a whole number"));
  EXPECT_THAT(error("num_attention_heads", 5), HasSubstr("no multiple"));
  EXPECT_THAT(error("layer_norm_eps", -1), HasSubstr("'layer_norm_eps'"));
  EXPECT_THAT(error_of([] { parse_encoder_config("[]", "c"); }), HasSubstr("'model_type' is missing"));
  const TemporaryFolder folder;
  Json huge = configuration();
  huge["vocab_size"] = 1 << 20;
  write_folder(folder, random_encoder().parameters(), huge);
  EXPECT_THAT(error_of([&] { load_encoder(folder.path()); }), HasSubstr("bytes of weights can't hold"));
}

}  // namespace
}  // namespace gatewright

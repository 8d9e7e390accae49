// The verb embed, on a tiny encoder with random weights that is made here.
#include <gmock/gmock.h>

#include <cmath>

#include "gatewright/base/json.h"
#include "gatewright/base/random.h"
#include "gatewright/formats/safetensors.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kHidden = 8, kInner = 12, kPositions = 6;
const std::vector<std::string> kWords = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",  "a",
                                         "man",   "plays", "the",   "guitar", "market"};

class EmbedCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_encoder();
    Json vocab = Json::object();
    for (const std::string& word : kWords) vocab[word] = vocab.size();
    Json added = Json::array();
    for (int id = 0; id < 4; ++id)
      added.push_back({{"id", id}, {"content", kWords[static_cast<size_t>(id)]}, {"special", true}});
    folder_->write(
        "models/tiny-bert/tokenizer.json",
        Json({{"added_tokens", added},
              {"normalizer",
               {{"type", "BertNormalizer"},
                {"clean_text", true},
                {"handle_chinese_chars", true},
                {"strip_accents", nullptr},
                {"lowercase", true}}},
              {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
              {"post_processor", {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}},
              {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
              {"model",
               {{"type", "WordPiece"},
                {"unk_token", "[UNK]"},
                {"continuing_subword_prefix", "##"},
                {"max_input_chars_per_word", 100},
                {"vocab", vocab}}}})
            .dump());
  }
  static void TearDownTestSuite() { delete folder_; }

  static void write_encoder() {
    const Json config = {{"model_type", "bert"},     {"vocab_size", kWords.size()},
                         {"hidden_size", kHidden},   {"num_hidden_layers", 1},
                         {"num_attention_heads", 2}, {"intermediate_size", kInner},
                         {"hidden_act", "gelu"},     {"max_position_embeddings", kPositions},
                         {"type_vocab_size", 2}};
    folder_->write("models/tiny-bert/config.json", config.dump());
    const std::string layer = "encoder.layer.0.";
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
        {"embeddings.word_embeddings.weight", {static_cast<int64_t>(kWords.size()), kHidden}},
        {"embeddings.position_embeddings.weight", {kPositions, kHidden}},
        {"embeddings.token_type_embeddings.weight", {2, kHidden}}};
    const auto add = [&](const std::string& name, std::vector<int64_t> weight) {
      shapes.push_back({name + ".bias", {weight[0]}});
      shapes.push_back({name + ".weight", std::move(weight)});
    };
    for (const char* norm : {"embeddings.LayerNorm", "encoder.layer.0.attention.output.LayerNorm",
                             "encoder.layer.0.output.LayerNorm"})
      add(norm, {kHidden});
    for (const char* name :
         {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
      add(layer + name, {kHidden, kHidden});
    add(layer + "intermediate.dense", {kInner, kHidden});
    add(layer + "output.dense", {kHidden, kInner});
    std::vector<std::vector<float>> values;
    std::vector<TensorView> views;
    RandomStream random(1, "encoder");
    values.reserve(shapes.size());
    for (const auto& [name, shape] : shapes) {
      int64_t size = 1;
      for (const int64_t d : shape) size *= d;
      std::vector<float>& tensor = values.emplace_back(static_cast<size_t>(size));
      for (float& x : tensor) x = random.normal();
      views.push_back({.name = name, .shape = shape, .data = std::as_bytes(std::span(tensor))});
    }
    write_safetensors(*folder_ / "models/tiny-bert/model.safetensors", views);
  }

  static std::string path() { return (*folder_ / "models/tiny-bert").string(); }

  static TemporaryFolder* folder_;
};

TemporaryFolder* EmbedCommand::folder_ = nullptr;

TEST_F(EmbedCommand, GivesALineForEachTextAndTheSameAsJson) {
  const std::string texts = "A man plays the guitar.\n\nthe market\nA man plays the guitar.";
  const CommandResult json = run({"embed", path(), "-", "--json"}, {.input = texts});
  ASSERT_EQ(json.code, 0) << json.err;
  const Json rows = Json::parse(json.out);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[2].at("text"), "the market");
  double square = 0;
  for (const double x : rows[2].at("embedding")) square += x * x;
  EXPECT_NEAR(square, 1, 1e-5);
  EXPECT_EQ(rows[0].at("embedding").size(), static_cast<size_t>(kHidden));
  for (size_t i = 0; i < kHidden; ++i) {
    EXPECT_NEAR(rows[0]["embedding"][i].get<double>(), rows[3]["embedding"][i].get<double>(), 1e-6)
        << "the same text";
  }
  EXPECT_NE(rows[0]["embedding"], rows[1]["embedding"]);
  const CommandResult plain = run({"embed", path(), folder_->write("texts.txt", texts).string()});
  ASSERT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(std::ranges::count(plain.out, '\n'), 4);
  EXPECT_NEAR(std::stod(plain.out), rows[0]["embedding"][0].get<double>(), 1e-5);
}

TEST_F(EmbedCommand, CutsWhatIsLongerThanThePositionsAndSaysSo) {
  const CommandResult r =
      run({"embed", path(), "--json"}, {.input = "a man plays the guitar the market\na man\n"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("1 of 2 texts are longer than 6 tokens"));
}

TEST_F(EmbedCommand, FindsAModelByItsShortNameAndRefusesOthers) {
  const std::string cache = "XDG_CACHE_HOME=" + (*folder_ / "cache").string();
  std::filesystem::create_directories(*folder_ / "cache/gatewright");
  std::filesystem::create_directory_symlink(*folder_ / "models", *folder_ / "cache/gatewright/models");
  const CommandResult found = run({"embed", "TINY", "--json"}, {.input = "a", .environment = {cache}});
  EXPECT_EQ(found.code, 0) << found.err;
  const CommandResult wrong = run({"embed", "tinny"}, {.input = "a", .environment = {cache}});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err,
              AllOf(HasSubstr("there is no model 'tinny'"), HasSubstr("did you mean 'tiny-bert'?")));
}

}  // namespace
}  // namespace gatewright

// Whole tokenizers of tokenizer.json that are not byte-level: what comes out, by hand.
#include <gtest/gtest.h>

#include "gatewright/base/json.h"
#include "gatewright/text/tokenizer.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using Ids = std::vector<int32_t>;

Json added(int32_t id, const char* content, bool special = true) {
  return {{"id", id}, {"content", content}, {"special", special}, {"normalized", !special}};
}

/// As Llama-2's: 0 <unk>, 1 <s>, 2 to 257 bytes, then tokens and merges.
Json llama() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 2 + byte;
  for (const char* token : {"\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"}) vocab[token] = vocab.size();
  const Json space = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json back = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  const Json single = Json::array(
      {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}});
  return {{"added_tokens", Json::array({added(0, "<unk>"), added(1, "<s>")})},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", "\u2581"}}, space})}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", single},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders", Json::array({back,
                                      {{"type", "ByteFallback"}},
                                      {{"type", "Fuse"}},
                                      {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", Json::array({"\u2581 a", "a b", "\u2581 ab"})}}}};
}
constexpr int32_t kMark = 258, kA = 259, kB = 260, kMarkA = 261, kMarkAb = 263;

TEST(Pipeline, MergesCharactersByRankWithBytesForTheRest) {
  const Tokenizer tokenizer = Tokenizer::parse(llama().dump(), "t");
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kBpe);
  // "_ a" has the lowest rank, so _ab is never made of _ and ab after an a.
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{kMarkA, kB}));
  EXPECT_EQ(tokenizer.encode("b\n"), (Ids{kMark, kB, 2 + '\n'}));
  EXPECT_EQ(tokenizer.encode("a<s>a", {.parse_special = true}), (Ids{kMarkA, 1, kMarkA}));
  EXPECT_EQ(tokenizer.encode("a", {.add_special = true}), (Ids{1, kMarkA}));
  EXPECT_EQ(tokenizer.begin(), 1);
  EXPECT_EQ(tokenizer.unknown(), 0);
  for (const char* text : {"ab", " a b ", "\u65E5\n", "\xFF"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.decode(Ids{1, kMarkAb}, {.skip_special = true}), "ab");
  EXPECT_EQ(Tokenizer::parse(tokenizer.to_json(), "again").to_json(), tokenizer.to_json());
}

TEST(Pipeline, TakesWholeWordsWhereMergesAreIgnored) {
  Json file = llama();
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(Tokenizer::parse(file.dump(), "t").encode("ab"), (Ids{kMarkAb}));
  static_cast<void>(kA);
}

/// As T5's: scores, spaces marked by Metaspace, </s> after each text.
Json unigram() {
  return {{"added_tokens",
           Json::array({added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>"), added(6, "<extra>", false)})},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", true}}},
          {"post_processor",
           {{"type", "RobertaProcessing"},
            {"cls", {"<pad>", 0}},
            {"sep", {"</s>", 1}},
            {"trim_offsets", true},
            {"add_prefix_space", true}}},
          {"decoder",
           {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", true}}},
          {"model",
           {{"type", "Unigram"},
            {"unk_id", 2},
            {"byte_fallback", false},
            {"vocab", Json::array({{"<pad>", 0.0},
                                   {"</s>", 0.0},
                                   {"<unk>", 0.0},
                                   {"\u2581a", -2.5},
                                   {"b", -1.5},
                                   {"\u2581ab", -3.5}})}}}};
}

TEST(Pipeline, RunsUnigramBehindMetaspace) {
  const Tokenizer tokenizer = Tokenizer::parse(unigram().dump(), "t");
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.encode("ab a", {.add_special = true}), (Ids{0, 5, 3, 1}));
  EXPECT_EQ(tokenizer.encode("a<extra>b"), (Ids{3, 6, 2, 4})) << "a mark without a token is unknown";
  EXPECT_EQ(tokenizer.decode(Ids{5, 3}), "ab a");
  EXPECT_EQ(Tokenizer::parse(tokenizer.to_json(), "again").to_json(), tokenizer.to_json());
}

TEST(Pipeline, RunsWordPieceAsBertDoes) {
  const Json file = {
      {"added_tokens", Json::array({added(0, "[UNK]"), added(1, "[CLS]"), added(2, "[SEP]")})},
      {"normalizer", {{"type", "BertNormalizer"}, {"lowercase", true}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor", {{"type", "BertProcessing"}, {"cls", {"[CLS]", 1}}, {"sep", {"[SEP]", 2}}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", "[UNK]"},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 6},
        {"vocab",
         {{"[UNK]", 0},
          {"[CLS]", 1},
          {"[SEP]", 2},
          {"un", 3},
          {"##aff", 4},
          {"##able", 5},
          {"!", 6},
          {"aff", 7}}}}}};
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "t");
  EXPECT_EQ(tokenizer.encode("UNAFF unaffable aff!", {.add_special = true}), (Ids{1, 3, 4, 0, 7, 6, 2}))
      << "nine characters are too many";
  EXPECT_EQ(tokenizer.decode(Ids{3, 4, 7, 6}), "unaff aff!");
}

TEST(Pipeline, ReadsAFolderWithItsConfiguration) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", llama().dump());
  folder.write(
      "tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "b", "pad_token": null, "chat_template": "{{ x }}"})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.begin(), 1);
  EXPECT_EQ(tokenizer.end(), kB);
  EXPECT_EQ(tokenizer.chat_template(), "{{ x }}");
  folder.write("chat_template.jinja", "{{ y }}");
  EXPECT_EQ(Tokenizer::load(folder.path()).chat_template(), "{{ y }}");
  const Json config = Json::parse(tokenizer.config_json());
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["chat_template"], "{{ x }}");
  const TemporaryFolder empty;
  EXPECT_NE(error_of([&] { Tokenizer::load(empty.path()); }).find("has no tokenizer"), std::string::npos);
}

TEST(Pipeline, NamesWhatAConfigurationHoldsWrongly) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", llama().dump());
  const std::string path = folder.write("tokenizer_config.json", R"({"bos_token": 3})").string();
  EXPECT_EQ(error_of([&] { Tokenizer::load(folder.path()); }),
            path + ": bos_token must be a text or an object with a text 'content'");
}

}  // namespace
}  // namespace gatewright

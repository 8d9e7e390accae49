#include "gatewright/text/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include "gatewright/formats/gguf.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/split_patterns.h"
#include "gatewright/text/tokenizer.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using Ids = std::vector<int32_t>;

/// 256 bytes, "he", "hel", "<s>" (control), "</s>" (control), "<mark>" (user defined).
GgufVocabulary byte_level() {
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  for (const uint8_t byte : byte_alphabet_order())
    v.tokens.push_back(to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  v.tokens.insert(v.tokens.end(), {"he", "hel", "<s>", "</s>", "<mark>"});
  v.types.assign(v.tokens.size(), 1);
  v.types[258] = v.types[259] = 3;
  v.types[260] = 4;
  v.merges = {"h e", "he l"};
  v.begin = 258;
  v.end = 259;
  return v;
}

/// <unk>, <s>, </s>, 256 bytes, then tokens with falling scores.
GgufVocabulary sentencepiece() {
  GgufVocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>", "<s>", "</s>"};
  v.types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    v.types.push_back(6);
  }
  for (const char* token : {"ab", "\u2581a", "\u2581ab", "bc", "\u2581", "a", "b", "c", "<mark>"})
    v.tokens.emplace_back(token);
  v.types.resize(v.tokens.size(), 1);
  v.types.back() = 4;
  for (size_t i = 0; i < v.tokens.size(); ++i) v.scores.push_back(-static_cast<double>(i));
  v.begin = 1;
  v.end = 2;
  return v;
}
constexpr int32_t kAb = 259, kSpaceA = 260, kSpaceAb = 261, kSpace = 263, kA = 264, kC = 266, kMark = 267;

GgufVocabulary word_pieces() {
  GgufVocabulary v;
  v.model = "bert";
  v.tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581gate", "s", "\u2581open", "\u2581.", "\u2581e"};
  v.types = {3, 3, 3, 3, 1, 1, 1, 1, 1};
  v.unknown = 1;
  v.classifier = 2;
  v.separator = 3;
  return v;
}

Tokenizer tokenizer_of(const GgufVocabulary& vocabulary) {
  return Tokenizer(definition_of(vocabulary, "v.gguf"), "v.gguf");
}
std::string error(const GgufVocabulary& vocabulary) {
  return error_of([&] { tokenizer_of(vocabulary); });
}

TEST(GgufVocabulary, ReadsByteLevelBpe) {
  const Tokenizer tokenizer = tokenizer_of(byte_level());
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kByteLevelBpe);
  EXPECT_EQ(tokenizer.encode("hell<mark><s>").size(), 6u) << "hel l <mark> < s >";
  EXPECT_EQ(tokenizer.encode("hel<s>", {.parse_special = true}), (Ids{257, 258}));
  EXPECT_EQ(tokenizer.begin(), 258);
  EXPECT_EQ(tokenizer.end(), 259);
  EXPECT_TRUE(tokenizer.lossless());
  GgufVocabulary adds = byte_level();
  adds.add_begin = true;
  EXPECT_EQ(tokenizer_of(adds).encode("hel", {.add_special = true}), (Ids{258, 257}));
}

TEST(GgufVocabulary, ReadsSentencePiece) {
  const Tokenizer tokenizer = tokenizer_of(sentencepiece());
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kScoredBpe);
  // "ab" has the highest score, so it is made first: _ ab; then _ab.
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{kSpaceAb}));
  EXPECT_EQ(tokenizer.encode("abc ab"), (Ids{kSpaceAb, kC, kSpaceAb}));
  EXPECT_EQ(tokenizer.encode("a  a"), (Ids{kSpaceA, kSpace, kSpaceA}));
  EXPECT_EQ(tokenizer.encode("\n"), (Ids{kSpace, 3 + '\n'})) << "a character without a token is its bytes";
  EXPECT_EQ(tokenizer.encode("a<mark>a"), (Ids{kSpaceA, kMark, kSpaceA})) << "each part has its space";
  EXPECT_EQ(tokenizer.encode("", {.add_special = true}), (Ids{1}));
  for (const char* text : {"ab", " ab", "abc  cab\n", "\xFF", "日本"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.token_bytes(kSpaceAb), " ab");
  EXPECT_EQ(tokenizer.token_bytes(3 + 0xFF), "\xFF");
}

TEST(GgufVocabulary, PutsNoSpaceFirstWhenTheFileSaysSo) {
  GgufVocabulary vocabulary = sentencepiece();
  vocabulary.add_space_prefix = false;
  const Tokenizer tokenizer = tokenizer_of(vocabulary);
  EXPECT_EQ(tokenizer.encode("ab ab"), (Ids{kAb, kSpaceAb}));
  EXPECT_EQ(tokenizer.decode(Ids{kSpaceAb}), " ab");
}

TEST(GgufVocabulary, ReadsWordPiece) {
  const Tokenizer tokenizer = tokenizer_of(word_pieces());
  EXPECT_EQ(tokenizer.encode("Gates OPEN."), (Ids{4, 5, 6, 7}));
  EXPECT_EQ(tokenizer.encode("\u00C9 xyz"), (Ids{8, 1})) << "accents go, what does not come out is unknown";
  EXPECT_EQ(tokenizer.encode("open", {.add_special = true}), (Ids{2, 6, 3}));
  EXPECT_EQ(tokenizer.decode(Ids{4, 5, 6, 7}), "gates open.");
}

TEST(GgufVocabulary, TakesCapitalsOfTheVocabularyForCase) {
  GgufVocabulary vocabulary = word_pieces();
  vocabulary.tokens.push_back("\u2581Open");
  vocabulary.types.push_back(1);
  EXPECT_EQ(tokenizer_of(vocabulary).encode("Open open"), (Ids{9, 6}));
}

TEST(GgufVocabulary, ComesBackFromTheTokenizer) {
  for (const GgufVocabulary& given : {byte_level(), sentencepiece(), word_pieces()}) {
    const Tokenizer tokenizer = tokenizer_of(given);
    const GgufVocabulary back = gguf_vocabulary(tokenizer.definition());
    EXPECT_EQ(back.tokens, given.tokens);
    EXPECT_EQ(back.types, given.types);
    EXPECT_EQ(back.merges, given.merges);
    EXPECT_EQ(back.scores, given.scores);
    EXPECT_EQ(back.begin, given.begin);
    EXPECT_EQ(back.model, given.model);
    EXPECT_EQ(tokenizer_of(back).fingerprint(), tokenizer.fingerprint());
  }
}

TEST(GgufVocabulary, SurvivesAFile) {
  const TemporaryFolder folder;
  GgufVocabulary given = sentencepiece();
  given.chat_template = "{{ messages }}";
  given.add_begin = true;
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  write_gguf_vocabulary(given, metadata);
  write_gguf(folder / "v.gguf", metadata, {});
  const Tokenizer tokenizer = Tokenizer::load(folder / "v.gguf");
  EXPECT_EQ(tokenizer.encode("abc", {.add_special = true}), (Ids{1, kSpaceAb, kC}));
  EXPECT_EQ(tokenizer.chat_template(), "{{ messages }}");
}

TEST(GgufVocabulary, GivesTheSameIdsThroughTokenizerJson) {
  for (const GgufVocabulary& given : {byte_level(), sentencepiece(), word_pieces()}) {
    const Tokenizer tokenizer = tokenizer_of(given);
    const Tokenizer again = Tokenizer::parse(tokenizer.to_json(), "what we wrote");
    for (const char* text : {"hello", "abc ab  ab\n", "gates open.", "a<mark>b", "日本", ""}) {
      EXPECT_EQ(again.encode(text, {.add_special = true}), tokenizer.encode(text, {.add_special = true}))
          << text;
    }
  }
}

TEST(GgufVocabulary, KnowsEveryNameOfAPreTokeniser) {
  for (const std::string_view name : pre_tokenizer_names()) {
    GgufVocabulary vocabulary = byte_level();
    vocabulary.pre = name;
    const Tokenizer tokenizer = tokenizer_of(vocabulary);
    const std::string text = "hello 12345 we'll\t\u00E9\u65E5\u672C  !\n\n";
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << name;
    EXPECT_FALSE(gguf_vocabulary(tokenizer.definition()).pre.empty()) << name;
  }
  GgufVocabulary strange = byte_level();
  strange.pre = "strange";
  EXPECT_EQ(
      error(strange).find("v.gguf: tokenizer.ggml.pre is \"strange\", which is not known; known are gpt-2,"),
      0u);
}

// What strangers' files hold.

TEST(HostileVocabulary, AnUnknownModelIsNamed) {
  GgufVocabulary v = byte_level();
  v.model = "nonsense";
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.model is \"nonsense\"; read are gpt2, llama and bert");
}

TEST(HostileVocabulary, NoTokensAreRefused) {
  GgufVocabulary v = byte_level();
  v.tokens.clear();
  EXPECT_EQ(error(v), "v.gguf: the vocabulary has no tokens");
}

TEST(HostileVocabulary, TypesOrScoresThatAreNotOneATokenAreRefused) {
  GgufVocabulary v = byte_level();
  v.types = {1};
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.token_type has 1 entries for 261 tokens");
  v = byte_level();
  v.types[0] = 7;
  EXPECT_EQ(error(v), "v.gguf: token 0 has the type 7; types go from 1 to 6");
  v = sentencepiece();
  v.scores.clear();
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.scores has 0 entries for 268 tokens");
  v = sentencepiece();
  v.scores[5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(error(v), "v.gguf: the score of token 5 is nan");
}

TEST(HostileVocabulary, ScoresOfBytesAreRefused) {
  GgufMetadata metadata("v.gguf");
  write_gguf_vocabulary(sentencepiece(), metadata);
  metadata.set("tokenizer.ggml.scores", std::vector<uint8_t>(268));
  EXPECT_NE(error_of([&] { read_gguf_vocabulary(metadata); }).find("tokenizer.ggml.scores"),
            std::string::npos);
  write_gguf_vocabulary(sentencepiece(), metadata);
  metadata.set("tokenizer.ggml.tokens", std::vector<float>(8));
  EXPECT_NE(error_of([&] { read_gguf_vocabulary(metadata); }).find("tokenizer.ggml.tokens"),
            std::string::npos);
}

TEST(HostileVocabulary, SpecialTokensOutOfRangeAreRefused) {
  GgufVocabulary v = byte_level();
  v.begin = int64_t{1} << 31;
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.bos_token_id is 2147483648, the vocabulary has ids 0 to 260");
  v = byte_level();
  v.unknown = 999;
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.unknown_token_id is 999, the vocabulary has ids 0 to 260");
  v = sentencepiece();
  v.end = -1;
  EXPECT_EQ(error(v), "v.gguf: tokenizer.ggml.eos_token_id is -1, the vocabulary has ids 0 to 267");
  v = byte_level();
  v.padding = 261;
  EXPECT_NE(error(v).find("padding_token_id is 261"), std::string::npos);
}

TEST(HostileVocabulary, MergesThatAreNoPairOfTokensAreRefused) {
  GgufVocabulary v = byte_level();
  v.merges = {"zz yy"};
  EXPECT_EQ(error(v), "v.gguf: merge 0 needs the token \"zz\", which the vocabulary does not have");
  v.merges = {"h e", "nopair"};
  EXPECT_EQ(error(v), "v.gguf: merge 1 is \"nopair\", not \"left right\"");
  v.merges = {"h e l"};
  EXPECT_EQ(error(v), "v.gguf: merge 0 is \"h e l\", not \"left right\"");
  v.merges = {"h e", "h e"};
  EXPECT_EQ(error(v), "v.gguf: merge 1 repeats an earlier one");
  v.merges = {"h l"};
  EXPECT_EQ(error(v), "v.gguf: merge 0 needs the token \"hl\", which the vocabulary does not have");
}

TEST(HostileVocabulary, MergesMakeNoControlToken) {
  GgufVocabulary v = byte_level();
  v.tokens.insert(v.tokens.end(), {"<s", "s>"});
  v.types.resize(v.tokens.size(), 1);
  v.merges = {"< s", "<s >"};
  EXPECT_EQ(error(v), "v.gguf: merge 1 uses the added token \"<s>\"");
}

TEST(HostileVocabulary, TokensThatRepeatOrAreEmptyAreRefused) {
  GgufVocabulary v = byte_level();
  v.tokens[256] = "hel";
  EXPECT_EQ(error(v), "v.gguf: the tokens 256 and 257 are both \"hel\"");
  v = sentencepiece();
  v.tokens[259] = "";
  EXPECT_EQ(error(v), "v.gguf: token 259 is empty");
  v = byte_level();
  v.tokens[256] = "h e";
  EXPECT_EQ(error(v), "v.gguf: token 256, \"h e\", is not made of byte-level characters");
}

TEST(HostileVocabulary, ByteTokensThatAreNoneAreRefused) {
  for (const char* name : {"<0x-1>", "<0xZZ>", "<0x123456>", "<0x4>", "x"}) {
    GgufVocabulary v = sentencepiece();
    v.tokens[3] = name;
    EXPECT_EQ(
        error(v),
        fmt::format(
            "v.gguf: token 3 stands for a byte and is named \"{}\"; such names go from <0x00> to <0xFF>",
            name));
  }
  GgufVocabulary v = sentencepiece();
  v.types[3] = 1;
  EXPECT_EQ(error(v), "v.gguf: 255 tokens stand for bytes; there are 256 or none");
}

TEST(HostileVocabulary, AHugeTokenCostsNoMoreThanItsBytes) {
  GgufVocabulary v = sentencepiece();
  v.tokens.emplace_back(70'000, 'c');
  v.types.push_back(1);
  v.scores.push_back(0);
  const Tokenizer tokenizer = tokenizer_of(v);
  EXPECT_EQ(tokenizer.encode("cc"), (Ids{kSpace, kC, kC}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(1000, 'c'))), std::string(1000, 'c'));
  EXPECT_EQ(static_cast<int32_t>(tokenizer.to_json().size() > 70'000), 1);
  static_cast<void>(kA);
}

/// The vocabulary of sentencepiece() with "<|user|>", in a file of Phi-3.
GgufMetadata phi3(int32_t& user) {
  GgufVocabulary v = sentencepiece();
  user = static_cast<int32_t>(v.tokens.size());
  v.tokens.emplace_back("<|user|>");
  v.types.push_back(3);
  v.scores.push_back(-1000);
  GgufMetadata metadata("phi.gguf");
  metadata.set("general.architecture", "phi3");
  write_gguf_vocabulary(v, metadata);
  metadata.erase("gatewright.tokenizer.rstrip");  // as others write it
  return metadata;
}

TEST(GgufVocabulary, Phi3TakesTheWhiteSpaceAfterItsTokens) {
  int32_t user = 0;
  GgufMetadata metadata = phi3(user);
  const auto encode = [&](std::string_view text) {
    return tokenizer_of(read_gguf_vocabulary(metadata)).encode(text, {.parse_special = true});
  };
  EXPECT_EQ(encode("<|user|> \n ab"), encode("<|user|>ab"));
  EXPECT_EQ(encode("<|user|>\n"), (Ids{user}));
  EXPECT_EQ(encode("</s>\nab"), encode("</s>ab"));
  EXPECT_NE(encode("<s>\nab"), encode("<s>ab")) << "the begin of a text is no part of a conversation";
  metadata.set("general.architecture", "llama");
  EXPECT_NE(encode("<|user|>\n"), (Ids{user})) << "other models keep the line end";
}

TEST(GgufVocabulary, KeepsWhichTokensTakeTheWhiteSpaceBesideThem) {
  for (const char* architecture : {"llama", "phi3"}) {
    TokenizerDefinition definition = definition_of(sentencepiece(), "v.gguf");
    for (AddedToken& token : definition.added) {
      token.lstrip = token.content == "<mark>";
      token.rstrip = token.content == "<s>";
    }
    GgufMetadata metadata;
    metadata.set("general.architecture", architecture);
    write_gguf_vocabulary(gguf_vocabulary(definition), metadata);
    for (const AddedToken& token : definition_of(read_gguf_vocabulary(metadata), "again").added) {
      EXPECT_EQ(token.lstrip, token.content == "<mark>") << architecture << " " << token.content;
      EXPECT_EQ(token.rstrip, token.content == "<s>") << architecture << " " << token.content;
    }
  }
  GgufVocabulary wrong = sentencepiece();
  wrong.strips_right = {kA};
  EXPECT_NE(error(wrong).find("gatewright.tokenizer.rstrip names token 264, which is no added one"),
            std::string::npos);
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/base/random.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/tokenizer.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

/// A small tokenizer.json as other tools write it, to be bent: 256 bytes, "he", "hel", <|endoftext|>.
Json small_file() {
  Json vocab = Json::object();
  int id = 0;
  for (const uint8_t byte : byte_alphabet_order())
    vocab[to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = id++;
  vocab["he"] = 256;
  vocab["hel"] = 257;
  return {{"version", "1.0"},
          {"added_tokens", Json::array({{{"id", 258}, {"content", "<|endoftext|>"}, {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array({"h e", Json::array({"he", "l"})})}}}};
}

std::string parse_error(const Json& file) {
  try {
    Tokenizer::parse(file.dump(), "t.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// The error after one value was put into the small file.
std::string error_with(const char* pointer, const Json& value) {
  Json file = small_file();
  file[Json::json_pointer(pointer)] = value;
  return parse_error(file);
}

TEST(TokenizerJson, ReadsWhatOtherToolsWrite) {
  const Tokenizer tokenizer = Tokenizer::parse(small_file().dump(), "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), 259);
  EXPECT_EQ(tokenizer.end_of_text(), 258);
  EXPECT_EQ(tokenizer.encode("hell"), (std::vector<int32_t>{257, 75}));  // hel, l: '!' is 0, so l is 108 - 33
}

TEST(TokenizerJson, ReadsFilesThatDoNotNameTheModel) {
  Json file = small_file();
  file["model"].erase("type");
  EXPECT_EQ(Tokenizer::parse(file.dump(), "t.json").vocab_size(), 259);
}

TEST(TokenizerJson, WritesTheSameBytesForTheSameTokenizer) {
  BpeTrainer trainer;
  trainer.add(
      "\"quoted\" \\ back\\slashes\tand \xFF\xFE bytes, again \"quoted\" \\ back\\slashes\tand \xFF\xFE");
  const Tokenizer tokenizer = trainer.train({.vocab_size = 270}).tokenizer;
  const std::string written = tokenizer.to_json();
  const Tokenizer again = Tokenizer::parse(written, "t.json");
  EXPECT_EQ(again.to_json(), written);
  EXPECT_EQ(again.fingerprint(), tokenizer.fingerprint());
  EXPECT_NE(trainer.train({.vocab_size = 269}).tokenizer.fingerprint(), tokenizer.fingerprint());
}

TEST(TokenizerJson, KeepsWhatAddedTokensSay) {
  const std::string content = "<| \"日本\" |>";
  Json file = small_file();
  file["added_tokens"][0] = {
      {"id", 258}, {"content", content}, {"special", true}, {"lstrip", true}, {"rstrip", false}};
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "t.json");
  EXPECT_EQ(tokenizer.end_of_text(), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(258), content);
  const Json written = Json::parse(tokenizer.to_json());
  EXPECT_EQ(written["added_tokens"][0]["content"], content);
  EXPECT_EQ(written["added_tokens"][0]["lstrip"], true);
  EXPECT_EQ(written["model"]["vocab"][content], 258);
}

TEST(TokenizerJson, IsSavedAndLoaded) {
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::parse(small_file().dump(), "t.json");
  tokenizer.save(folder / "tokenizer.json");
  EXPECT_EQ(Tokenizer::load(folder / "tokenizer.json").to_json(), tokenizer.to_json());
}

TEST(TokenizerJson, NamesTheFileThatItCannotRead) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.write("broken.json", R"({"model": {"type": "BPE")");
  try {
    Tokenizer::load(path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find(path.string() + " is not JSON: "), 0u) << e.what();
  }
  EXPECT_THROW(Tokenizer::load(folder / "nothing.json"), Error);
}

TEST(TokenizerJson, RefusesEveryCutOffFile) {
  const std::string whole = small_file().dump();
  for (size_t size = 0; size < whole.size(); size += 37)
    EXPECT_THROW(Tokenizer::parse(std::string_view(whole).substr(0, size), "t.json"), Error);
}

TEST(TokenizerJson, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(error_with("/model/type", "WordLevel"),
            "t.json: the model is \"WordLevel\"; read are \"BPE\", \"Unigram\" and \"WordPiece\"");
  EXPECT_EQ(error_with("/model/strange", 1), "t.json: model.strange is not known");
  EXPECT_EQ(error_with("/model/byte_fallback", true),
            "t.json: model.byte_fallback is not supported for byte-level BPE");
  EXPECT_EQ(error_with("/model/end_of_word_suffix", "</w>"),
            "t.json: model.end_of_word_suffix is not supported for BPE");
  EXPECT_EQ(error_with("/model/unk_token", "<unk>"),
            "t.json: model.unk_token is \"<unk>\", which the vocabulary does not have");
  EXPECT_EQ(error_with("/pre_tokenizer", {{"type", "UnicodeScripts"}}),
            "t.json: pre_tokenizer has the type \"UnicodeScripts\", which is not supported");
  EXPECT_EQ(error_with("/pre_tokenizer/strange", 1),
            "t.json: pre_tokenizer of type \"ByteLevel\" has the member \"strange\", which is not known");
  EXPECT_EQ(error_with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Nmt"}}}}}),
            "t.json: normalizer.normalizers[0] has the type \"Nmt\", which is not supported");
  EXPECT_EQ(error_with("/decoder", {{"type", "CTC"}}),
            "t.json: decoder has the type \"CTC\", which is not supported");
  EXPECT_EQ(error_with("/post_processor", {{"type", "Strange"}}),
            "t.json: post_processor has the type \"Strange\", which is not supported");
  EXPECT_EQ(
      error_with("/post_processor", {{"type", "BertProcessing"}, {"sep", {"x", 999}}, {"cls", {"x", 1}}}),
      "t.json: post_processor names the token id 999, the vocabulary has ids 0 to 258");
}

TEST(TokenizerJson, RefusesPatternsThatWouldNotBeUnderstood) {
  const auto with_pattern = [](const Json& pattern) {
    return error_with("/pre_tokenizer",
                      {{"type", "Sequence"},
                       {"pretokenizers",
                        {{{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}},
                         {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}});
  };
  EXPECT_EQ(with_pattern({{"Regex", "\\p{L}+"}}), "no error");
  EXPECT_NE(with_pattern({{"Regex", "("}}).find("does not compile"), std::string::npos);
  EXPECT_NE(with_pattern({{"Regex", "[a-z&&[^b]]"}}).find("not supported"), std::string::npos);
  EXPECT_NE(with_pattern({{"Regex", ""}}).find("must not be empty"), std::string::npos);
  EXPECT_NE(with_pattern(3).find("pattern must be"), std::string::npos);
}

TEST(TokenizerJson, RefusesIdsThatCannotBe) {
  EXPECT_EQ(error_with("/model/vocab/he", 0), "t.json: the tokens \"!\" and \"he\" have the same id 0");
  EXPECT_EQ(error_with("/model/vocab/he", -1),
            "t.json: the id of the token \"he\" must be a whole number from 0 on, it is -1");
  EXPECT_EQ(error_with("/model/vocab/he", 1.5),
            "t.json: the id of the token \"he\" must be a whole number from 0 on, it is 1.5");
  EXPECT_EQ(error_with("/model/vocab/he", "256"),
            "t.json: the id of the token \"he\" must be a whole number from 0 on, it is string");
  EXPECT_EQ(
      error_with("/model/vocab/he", 18446744073709551615u),
      "t.json: the id of the token \"he\" must be a whole number from 0 on, it is 18446744073709551615");
  EXPECT_EQ(error_with("/model/vocab/he", 2147483647),
            "t.json: the token \"he\" has id 2147483647, but 259 tokens have ids 0 to 258 without holes");
  EXPECT_EQ(error_with("/added_tokens/0/id", 259),
            "t.json: the token \"<|endoftext|>\" has id 259, but 259 tokens have ids 0 to 258 without holes");
  EXPECT_EQ(error_with("/added_tokens/0/id", 256),
            "t.json: the tokens \"he\" and \"<|endoftext|>\" have the same id 256");
}

TEST(TokenizerJson, RefusesVocabulariesThatCannotBe) {
  EXPECT_EQ(error_with("/model/vocab", Json::array()),
            "t.json: model.vocab must be an object of ids by token, it is array");
  Json file = small_file();
  file["model"]["vocab"].erase("a");
  file["model"]["vocab"]["ab"] = 64;  // where 'a' was
  EXPECT_EQ(parse_error(file), "no error");
  EXPECT_FALSE(Tokenizer::parse(file.dump(), "t.json").lossless()) << "no token for the byte 0x61";
  file = small_file();
  file["model"]["vocab"].erase("hel");
  file["model"]["vocab"]["h l"] = 257;
  EXPECT_EQ(parse_error(file), "t.json: the token \"h l\" is not made of byte-level characters");
  file = small_file();
  file["model"]["vocab"].erase("hel");
  file["model"]["vocab"][""] = 257;
  EXPECT_EQ(parse_error(file), "t.json: the token \"\" is not made of byte-level characters");
}

TEST(TokenizerJson, RefusesMergesThatCannotBe) {
  const auto with_merges = [](const Json& merges) { return error_with("/model/merges", merges); };
  EXPECT_EQ(with_merges(Json::array({"h q"})),
            "t.json: merge 0 needs the token \"hq\", which the vocabulary does not have");
  EXPECT_EQ(with_merges(Json::array({"h e", "zz l"})),
            "t.json: merge 1 needs the token \"zz\", which the vocabulary does not have");
  EXPECT_EQ(with_merges(Json::array({"h e", "h e"})), "t.json: merge 1 repeats an earlier one");
  for (const Json& bad :
       {Json("he"), Json("h e l"), Json(7), Json::array({"h"}), Json::array({"h", 1}), Json()})
    EXPECT_EQ(with_merges(Json::array({bad})),
              "t.json: merge 0 is neither \"left right\" nor [\"left\", \"right\"]");
  EXPECT_EQ(with_merges("h e"), "t.json: model.merges must be a list, it is string");
}

TEST(TokenizerJson, RefusesMergesThatMakeASpecialToken) {
  Json file = small_file();
  file["added_tokens"][0]["content"] = "hell";  // a user could write it
  file["model"]["merges"].push_back("hel l");
  file["model"]["vocab"]["hell"] = 258;
  EXPECT_EQ(parse_error(file), "t.json: merge 2 uses the added token \"hell\"");
}

TEST(TokenizerJson, RefusesAddedTokensThatCannotBe) {
  EXPECT_EQ(error_with("/added_tokens", 3), "t.json: added_tokens must be a list, it is number");
  EXPECT_EQ(error_with("/added_tokens/0", "<s>"),
            "t.json: each of added_tokens is an object with a text 'content'");
  EXPECT_EQ(error_with("/added_tokens/0/special", 1), "t.json: added_tokens: special must be true or false");
  Json file = small_file();
  file["added_tokens"].push_back(file["added_tokens"][0]);
  file["added_tokens"][1]["id"] = 259;
  EXPECT_EQ(parse_error(file), "t.json: the added token \"<|endoftext|>\" is there twice");
}

TEST(TokenizerJson, RefusesDocumentsThatAreNoTokenizer) {
  EXPECT_EQ(parse_error(Json::array()), "t.json: a tokenizer.json holds an object, this one array");
  EXPECT_EQ(parse_error(Json::object()), "t.json: a tokenizer.json has an object 'model', here it is null");
  EXPECT_THROW(Tokenizer::parse(std::string(100'000, '['), "t.json"), Error);
}

/// Whatever single value of the file is replaced by something else, the answer is a tokenizer or one Error.
TEST(TokenizerJson, SurvivesAnyReplacedValue) {
  const Json whole = small_file();
  const std::vector<Json> values = {nullptr,
                                    true,
                                    -1,
                                    3,
                                    1e300,
                                    "",
                                    "\u0120",
                                    "BPE",
                                    Json::array(),
                                    Json::object(),
                                    Json::array({Json::array()}),
                                    18446744073709551615u};
  const Json flat = whole.flatten();  // by pointer
  for (const auto& [pointer, unused] : flat.items()) {
    for (Json::json_pointer place(pointer); !place.empty(); place.pop_back()) {
      for (const Json& value : values) {
        if (pointer.find("/vocab/") != std::string::npos && pointer.find("/vocab/he") == std::string::npos)
          continue;
        Json bent = whole;
        bent[place] = value;
        try {
          const Tokenizer tokenizer = Tokenizer::parse(bent.dump(), "t.json");
          const std::string text = tokenizer.decode(tokenizer.encode("hello \xFF"));
          if (tokenizer.lossless()) {
            EXPECT_EQ(text, "hello \xFF");
          }
        } catch (const Error& e) {
          EXPECT_EQ(std::string(e.what()).find("t.json"), 0u) << e.what();
        }
      }
    }
  }
}

}  // namespace
}  // namespace gatewright

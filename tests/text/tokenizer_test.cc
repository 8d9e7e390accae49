#include "gatewright/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "gatewright/base/error.h"
#include "gatewright/base/random.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/gpt2_scanner.h"
#include "tests/text/naive_bpe.h"

namespace gatewright {
namespace {

constexpr int32_t kFirstMerge = 256;

/// 256 bytes in alphabet order and the given merges, by name: {{"h", "e"}, {"he", "l"}}.
BpeVocabulary vocabulary_with(const std::vector<std::pair<std::string, std::string>>& merges) {
  BpeVocabulary vocabulary;
  for (const uint8_t byte : byte_alphabet_order()) vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  const auto id = [&](const std::string& token) {
    return static_cast<int32_t>(std::ranges::find(vocabulary.tokens, token) - vocabulary.tokens.begin());
  };
  for (const auto& [left, right] : merges) {
    vocabulary.merges.push_back({id(left), id(right), static_cast<int32_t>(vocabulary.tokens.size())});
    vocabulary.tokens.push_back(left + right);
  }
  return vocabulary;
}

std::vector<std::string> pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> result;
  for (const int32_t id : tokenizer.encode(text)) result.push_back(tokenizer.token_bytes(id));
  return result;
}

std::string random_bytes(RandomStream& random, size_t size, uint64_t different) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text += static_cast<char>('a' + random.below(different));
  return text;
}

TEST(Tokenizer, MergesTheLowestRankFirst) {
  // "hello": l+l has rank 0, so h e ll o; then h+e: he ll o; then he+ll: hell o. l+o never gets its turn.
  const Tokenizer tokenizer(vocabulary_with({{"l", "l"}, {"h", "e"}, {"l", "o"}, {"he", "ll"}}));
  EXPECT_EQ(pieces(tokenizer, "hello"), (std::vector<std::string>{"hell", "o"}));
  EXPECT_EQ(pieces(tokenizer, "helo"), (std::vector<std::string>{"he", "lo"}));
  EXPECT_EQ(tokenizer.encode("ll"), (std::vector<int32_t>{kFirstMerge}));
}

TEST(Tokenizer, MergesTheLeftmostOnATie) {
  const Tokenizer tokenizer(vocabulary_with({{"a", "a"}}));
  EXPECT_EQ(pieces(tokenizer, "aaa"), (std::vector<std::string>{"aa", "a"}));
  EXPECT_EQ(pieces(tokenizer, "aaaaa"), (std::vector<std::string>{"aa", "aa", "a"}));
}

TEST(Tokenizer, DoesNotMergeAcrossWords) {
  const Tokenizer tokenizer(vocabulary_with({{"b", " "}, {" ", "b"}}));
  EXPECT_EQ(pieces(tokenizer, "b b"), (std::vector<std::string>{"b", " b"}));
}

TEST(Tokenizer, MergesAcrossBytesThatHaveNoToken) {
  // As SmolLM2, whose training text had no character of some planes, and so no token of their first bytes.
  BpeVocabulary vocabulary = vocabulary_with({{"a", "z"}, {"\x90", "\x80"}, {" ", "\x90\x80"}});
  std::string& missing = *std::ranges::find(vocabulary.tokens, "\xF1");
  missing = "<none>";  // a token that no text gives
  const Tokenizer tokenizer(vocabulary);
  EXPECT_FALSE(tokenizer.lossless());
  EXPECT_EQ(pieces(tokenizer, "a\xF1z"), (std::vector<std::string>{"a", "z"})) << "two words";
  EXPECT_EQ(pieces(tokenizer, " \U00050000"), (std::vector<std::string>{" \x90\x80", "\x80"}));
  EXPECT_EQ(pieces(tokenizer, "\U00050000\U00050000"),
            (std::vector<std::string>{"\x90\x80", "\x80", "\x90\x80", "\x80"}));
  EXPECT_TRUE(tokenizer.encode("\xF1").empty());
  TokenizerDefinition with_unknown = tokenizer.definition();
  with_unknown.unknown = static_cast<int32_t>(&missing - vocabulary.tokens.data());
  EXPECT_EQ(pieces(Tokenizer(with_unknown), " \U00050000"),
            (std::vector<std::string>{" ", "<none>", "\x90\x80", "\x80"}));
}

TEST(Tokenizer, IsLosslessOnAnyBytes) {
  const Tokenizer tokenizer(vocabulary_with({{"\xC3", "\xA9"}, {" ", "\xC3\xA9"}, {"\xFF", "\xFF"}}));
  RandomStream random(1, "lossless");
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (uint64_t i = random.below(300); i > 0; --i) text += static_cast<char>(random.below(256));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(Tokenizer, AgreesWithBpeByDefinition) {
  RandomStream random(2, "against naive");
  for (int round = 0; round < 60; ++round) {
    // Random merges over four letters: often out of order, so that ranks and ids disagree.
    BpeVocabulary vocabulary = vocabulary_with({});
    std::vector<int32_t> known;
    for (const char c : {'a', 'b', 'c', 'd'})
      known.push_back(static_cast<int32_t>(std::ranges::find(vocabulary.tokens, std::string(1, c)) -
                                           vocabulary.tokens.begin()));
    for (int m = 0; m < 40; ++m) {
      const int32_t left = known[random.below(known.size())], right = known[random.below(known.size())];
      const std::string joined = vocabulary.tokens[size_t(left)] + vocabulary.tokens[size_t(right)];
      if (joined.size() > 12 || std::ranges::find(vocabulary.tokens, joined) != vocabulary.tokens.end())
        continue;
      known.push_back(static_cast<int32_t>(vocabulary.tokens.size()));
      vocabulary.merges.push_back({left, right, known.back()});
      vocabulary.tokens.push_back(joined);
    }
    random.shuffle(std::span(vocabulary.merges));
    const Tokenizer tokenizer(vocabulary);
    for (const size_t length : {1, 2, 3, 7, 20, 47, 48, 49, 50, 200})
      for (int again = 0; again < 3; ++again) {
        const std::string word = random_bytes(random, length, 4);
        ASSERT_EQ(tokenizer.encode(word), naive_bpe(vocabulary, word)) << word;
        ASSERT_EQ(tokenizer.encode(word), naive_bpe(vocabulary, word)) << word << " from the cache";
      }
  }
}

TEST(Tokenizer, KeepsApartTheCachedWordsOfTwoTokenizers) {
  const Tokenizer one(vocabulary_with({{"a", "b"}})), other(vocabulary_with({{"b", "c"}}));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pieces(one, "abc"), (std::vector<std::string>{"ab", "c"}));
    EXPECT_EQ(pieces(other, "abc"), (std::vector<std::string>{"a", "bc"}));
  }
}

TEST(Tokenizer, TellsApartWordsThatDifferInZeroBytes) {
  const Tokenizer tokenizer(vocabulary_with({}));
  for (const size_t zeros : {0, 1, 2, 7, 20, 40}) {
    std::string text(1 + zeros, '\0');
    text[0] = 'a';
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, EncodesAMillionEqualLetters) {
  const Tokenizer tokenizer(vocabulary_with({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}}));
  const std::vector<int32_t> ids = tokenizer.encode(std::string(1'000'000, 'a'));
  EXPECT_EQ(ids, std::vector<int32_t>(125'000, kFirstMerge + 2));
}

TEST(Tokenizer, EncodesInManyThreadsAsInOne) {
  const Tokenizer tokenizer(vocabulary_with({{"a", "b"}, {"ab", "a"}, {"b", "b"}, {" ", "ab"}}));
  RandomStream random(8, "threads");
  std::vector<std::string> texts;
  for (int i = 0; i < 64; ++i) texts.push_back("ab " + random_bytes(random, 1 + random.below(400), 3));
  std::vector<std::vector<int32_t>> ids(texts.size());
  std::vector<std::jthread> threads;
  for (size_t first = 0; first < 4; ++first)
    threads.emplace_back([&, first] {
      for (size_t i = first; i < texts.size(); i += 4) ids[i] = tokenizer.encode(texts[i]);
    });
  threads.clear();
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(ids[i], tokenizer.encode(texts[i]));
}

TEST(Tokenizer, TreatsNamesOfSpecialTokensAsText) {
  BpeVocabulary vocabulary = vocabulary_with({});
  vocabulary.added.push_back({.id = 256, .content = "<|endoftext|>"});
  vocabulary.tokens.push_back("<|endoftext|>");
  const Tokenizer tokenizer(vocabulary);
  EXPECT_EQ(tokenizer.end_of_text(), 256);
  const std::vector<int32_t> ids = tokenizer.encode("<|endoftext|>");
  EXPECT_EQ(ids.size(), 13u);
  EXPECT_EQ(std::ranges::count(ids, 256), 0);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{256}), "<|endoftext|>");
}

/// 256 bytes, then <|endoftext|> (special), <|user|> (special), "magic word" (not special).
Tokenizer with_added_tokens() {
  BpeVocabulary vocabulary = vocabulary_with({});
  const auto add = [&](AddedToken token) {
    token.id = static_cast<int32_t>(vocabulary.tokens.size());
    vocabulary.tokens.push_back(token.content);
    vocabulary.added.push_back(std::move(token));
  };
  add({.content = "<|endoftext|>"});
  add({.content = "<|user|>", .rstrip = true});
  add({.content = "magic word", .special = false});
  add({.content = "magic", .special = false, .single_word = true});
  return Tokenizer(std::move(vocabulary));
}

TEST(Tokenizer, MakesSpecialTokensOfTextOnlyWhenAsked) {
  const Tokenizer tokenizer = with_added_tokens();
  EXPECT_EQ(tokenizer.encode("<|user|> \n<|endoftext|>", {.parse_special = true}),
            (std::vector<int32_t>{257, 256}));
  EXPECT_EQ(std::ranges::count(tokenizer.encode("<|user|> x"), 257), 0);
  EXPECT_TRUE(tokenizer.is_special(257));
  EXPECT_FALSE(tokenizer.is_special(258));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{257, 258}, {.skip_special = true}), "magic word");
  EXPECT_EQ(tokenizer.find("<|user|>"), 257);
  EXPECT_EQ(tokenizer.find("nothing"), std::nullopt);
}

TEST(Tokenizer, KeepsNamesOfSpecialTokensTextInPlainParts) {
  const Tokenizer tokenizer = with_added_tokens();
  const auto encode = [&](std::string_view text, const std::vector<TextRange>& plain) {
    return tokenizer.encode(text, {.parse_special = true, .plain = plain});
  };
  const std::vector<int32_t> as_text = tokenizer.encode("<|user|>");
  const std::string_view twice = "<|user|><|user|>";
  std::vector<int32_t> second = {257}, first = as_text;
  second.insert(second.end(), as_text.begin(), as_text.end());
  first.push_back(257);
  EXPECT_EQ(encode(twice, {}), (std::vector<int32_t>{257, 257}));
  EXPECT_EQ(encode(twice, {{8, 16}}), second);
  EXPECT_EQ(encode(twice, {{0, 8}}), first);
  EXPECT_EQ(encode(twice, {{0, 1}}), first) << "one byte is enough";
  EXPECT_EQ(encode(twice, {{7, 8}, {20, 30}}), first);
  EXPECT_EQ(encode("<|user|> magic word", {{8, 19}}), (std::vector<int32_t>{257, 258}))
      << "tokens that are not special are found everywhere, and white space is taken as ever";
  EXPECT_EQ(encode("<|user|>", {{8, 8}}), (std::vector<int32_t>{257}));
  EXPECT_EQ(tokenizer.encode("<|user|>", {.plain = std::vector<TextRange>{}}), as_text);
}

TEST(Tokenizer, APlainPartDoesNotHideAShorterNameBeforeIt) {
  BpeVocabulary vocabulary = vocabulary_with({});
  for (const char* name : {"<a>", "<a>b"}) {
    vocabulary.added.push_back({.id = static_cast<int32_t>(vocabulary.tokens.size()), .content = name});
    vocabulary.tokens.emplace_back(name);
  }
  const Tokenizer tokenizer(std::move(vocabulary));
  const std::vector<TextRange> plain = {{3, 4}};
  const int32_t b = tokenizer.encode("b").at(0);
  EXPECT_EQ(tokenizer.encode("<a>b", {.parse_special = true}), (std::vector<int32_t>{257}));
  EXPECT_EQ(tokenizer.encode("<a>b", {.parse_special = true, .plain = plain}),
            (std::vector<int32_t>{256, b}));
}

TEST(Tokenizer, PlainPartsWithoutNamesChangeNothing) {
  // "ab" merges across the border of a part: the text is encoded in one go.
  BpeVocabulary vocabulary = vocabulary_with({{"a", "b"}, {"ab", "a"}});
  const auto end = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.emplace_back("<|end|>");
  vocabulary.added.push_back({.id = end, .content = "<|end|>"});
  const Tokenizer tokenizer(std::move(vocabulary));
  RandomStream random(1, "test");
  for (int i = 0; i < 200; ++i) {
    std::string text;
    std::vector<TextRange> plain;
    for (int part = 0; part < 6; ++part) {
      if (random.below(2)) text += "<|end|>";
      const size_t begin = text.size();
      text += random_bytes(random, random.below(5), 2);
      if (random.below(2) && text.size() > begin) plain.push_back({begin, text.size()});
    }
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = true, .plain = plain}),
              tokenizer.encode(text, {.parse_special = true}))
        << text;
  }
}

TEST(Tokenizer, PlainPartsAreFoundAgainInNormalisedText) {
  // A special token that is looked for in the normalised text, which is longer and has other characters; the
  // accents after the parts melt with their last letters.
  BpeVocabulary vocabulary = vocabulary_with({});
  vocabulary.tokens.emplace_back("<END>");
  vocabulary.added.push_back({.id = 256, .content = "<END>", .normalized = true});
  TokenizerDefinition definition = Tokenizer(std::move(vocabulary)).definition();
  definition.normalizer = Json::parse(R"({"type": "Sequence", "normalizers": [
    {"type": "Replace", "pattern": {"String": " "}, "content": "___"}, {"type": "Lowercase"}, {"type": "NFC"}]})");
  const Tokenizer tokenizer(definition);
  const std::string said = "u <END> e", text = said + "\u0301<END>" + said + "\u0301<end> ";
  const size_t again = text.rfind(said);
  const std::vector<TextRange> plain = {{0, said.size()}, {again, again + said.size()}};
  const std::vector<int32_t> ids = tokenizer.encode(text, {.parse_special = true, .plain = plain});
  EXPECT_EQ(std::ranges::count(ids, 256), 2);
  EXPECT_EQ(tokenizer.decode(ids), "u___<end>___\u00E9<END>u___<end>___\u00E9<END>___");
  EXPECT_EQ(std::ranges::count(tokenizer.encode(text, {.parse_special = true}), 256), 4);
}

TEST(Tokenizer, FindsTheLongestAddedTokenAndWholeWords) {
  const Tokenizer tokenizer = with_added_tokens();
  EXPECT_EQ(pieces(tokenizer, "a magic words"), (std::vector<std::string>{"a", " ", "magic word", "s"}));
  EXPECT_EQ(pieces(tokenizer, "magic"), (std::vector<std::string>{"magic"}));
  EXPECT_EQ(pieces(tokenizer, "magics").size(), 6u) << "not a whole word";
}

TEST(Tokenizer, MergesByScoreAlsoLongTokensAndCharactersWithoutOne) {
  // Tokens of 1, 2, 4, ... 64 letters, the short ones first; "\u00E9b", whose first character is none.
  TokenizerDefinition definition;
  definition.kind = TokenizerKind::kScoredBpe;
  definition.tokens = {"<unk>", "b"};
  definition.unknown = 0;
  for (size_t size = 1; size <= 64; size *= 2) definition.tokens.emplace_back(size, 'a');
  definition.tokens.emplace_back("\u00E9b");
  for (size_t id = 0; id < definition.tokens.size(); ++id)
    definition.scores.push_back(-static_cast<double>(id));
  const Tokenizer tokenizer(definition);
  EXPECT_EQ(tokenizer.encode(std::string(64, 'a')), (std::vector<int32_t>{8}));
  EXPECT_EQ(tokenizer.encode(std::string(97, 'a')), (std::vector<int32_t>{8, 7, 2}));
  EXPECT_EQ(tokenizer.encode("a\u00E9bb\u00E9"), (std::vector<int32_t>{2, 9, 1, 0}));
}

TEST(Tokenizer, AFamilyOfOptionsIsChecked) {
  TokenizerDefinition definition = Tokenizer(vocabulary_with({})).definition();
  const auto error = [](const TokenizerDefinition& d) -> std::string {
    try {
      Tokenizer tokenizer(d, "t");
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(definition), "no error");
  TokenizerDefinition bad = definition;
  bad.end = 256;
  EXPECT_EQ(error(bad), "t: the end token has the id 256, the vocabulary has ids 0 to 255");
  bad = definition;
  bad.tokens.clear();
  EXPECT_EQ(error(bad), "t: the vocabulary has no tokens");
  bad = definition;
  bad.kind = TokenizerKind::kBpe;
  EXPECT_EQ(error(bad), "t: a ByteLevel pre_tokenizer and a byte-level vocabulary belong together");
}

TEST(Tokenizer, RefusesIdsOutOfRange) {
  const Tokenizer tokenizer(vocabulary_with({}));
  for (const int32_t id : {-1, 256, INT32_MAX}) {
    try {
      tokenizer.decode(std::vector<int32_t>{id});
      FAIL() << "id " << id;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()),
                "token id " + std::to_string(id) + " is not in the vocabulary, which has ids 0 to 255");
    }
  }
}

}  // namespace
}  // namespace gatewright

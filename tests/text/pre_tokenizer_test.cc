#include "gatewright/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "gatewright/base/random.h"
#include "gatewright/text/split_patterns.h"
#include "gatewright/text/utf8.h"
#include "tests/testing.h"
#include "tests/text/pattern_text.h"

namespace gatewright {
namespace {

using Words = std::vector<std::string>;

Words cut(const Json& json, std::string_view text, bool begins = true) {
  Words words;
  const auto on_word = [&](const PreTokenizer::Piece& word) { words.emplace_back(word.text); };
  PreTokenizer(json, "t").cut({.text = text, .buffer = text, .begins_text = begins}, on_word);
  return words;
}
Json split(const char* kind, const char* pattern, const char* behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{kind, pattern}}}, {"behavior", behavior}, {"invert", invert}};
}
Json pre_tokenizers(Json parts) { return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}}; }

TEST(PreTokenizer, SplitsByEveryBehaviour) {
  EXPECT_EQ(cut(split("String", "-", "Removed"), "a-b--c"), (Words{"a", "b", "c"}));
  EXPECT_EQ(cut(split("String", "-", "Isolated"), "a-b--c"), (Words{"a", "-", "b", "-", "-", "c"}));
  EXPECT_EQ(cut(split("String", "-", "MergedWithPrevious"), "a-b--c"), (Words{"a-", "b-", "-", "c"}));
  EXPECT_EQ(cut(split("String", "-", "MergedWithNext"), "a-b--c"), (Words{"a", "-b", "-", "-c"}));
  EXPECT_EQ(cut(split("String", "-", "Contiguous"), "a-b--c"), (Words{"a", "-", "b", "--", "c"}));
  EXPECT_EQ(cut(split("String", "-", "MergedWithPrevious"), "-a-"), (Words{"-", "a-"}));
  EXPECT_EQ(cut(split("String", "-", "MergedWithNext"), "-a-"), (Words{"-a", "-"}));
  EXPECT_EQ(cut(split("Regex", "[a-z]+", "Removed", true), "ab--c!"), (Words{"ab", "c"}));
  EXPECT_EQ(cut(split("Regex", "\\d", "Isolated"), "a12"), (Words{"a", "1", "2"}));
  EXPECT_EQ(cut(split("Regex", "x*", "Isolated"), "axb"), (Words{"a", "x", "b"})) << "empty matches cut, too";
}

TEST(PreTokenizer, KnowsTheCategoriesOfUnicode16) {
  const std::string text = "a\u1B4E!\u1C89";  // new in it: a punctuation mark, and a capital letter
  const auto cut_at = [&](const char* pattern) { return cut(split("Regex", pattern, "Isolated"), text); };
  EXPECT_EQ(cut_at("\\p{P}+"), (Words{"a", "\u1B4E!", "\u1C89"}));
  EXPECT_EQ(cut_at("\\pP"), (Words{"a", "\u1B4E", "!", "\u1C89"}));
  EXPECT_EQ(cut_at("\\P{L}+"), (Words{"a", "\u1B4E!", "\u1C89"}));
  EXPECT_EQ(cut_at("\\p{^P}"), (Words{"a", "\u1B4E!", "\u1C89"}));
  EXPECT_EQ(cut_at("[\\p{Lu}!]+"), (Words{"a\u1B4E", "!\u1C89"}));
  EXPECT_EQ(cut_at("[^\\p{L}]"), (Words{"a", "\u1B4E", "!", "\u1C89"}));
}

TEST(PreTokenizer, CutsForBertAtWhiteSpaceAndThenAtPunctuation) {
  const Json bert = {{"type", "BertPreTokenizer"}};
  const Json steps =
      pre_tokenizers({{{"type", "WhitespaceSplit"}}, {{"type", "Punctuation"}, {"behavior", "Isolated"}}});
  RandomStream random(17, "bert");
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint64_t left = random.below(20); left > 0; --left) {
      const uint64_t kind = random.below(4);
      if (kind == 0)
        text += static_cast<char>(random.below(256));
      else
        append_utf8(static_cast<uint32_t>(kind == 1 ? random.below(0x80) : random.below(0xD800)), text);
    }
    EXPECT_EQ(cut(bert, text), cut(steps, text)) << text;
  }
}

TEST(PreTokenizer, CutsInARow) {
  EXPECT_EQ(cut(pre_tokenizers({split("Regex", "\\p{N}{1,3}", "Isolated"), split("String", "a", "Isolated")}),
                "xa1234a"),
            (Words{"x", "a", "123", "4", "a"}));
}

TEST(PreTokenizer, MarksSpaces) {
  const Json always = {
      {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "always"}, {"split", true}};
  EXPECT_EQ(cut(always, "a  bc"), (Words{"_a", "_", "_bc"}));
  EXPECT_EQ(cut(always, " a"), (Words{"_a"}));
  Json first = always;
  first["prepend_scheme"] = "first";
  EXPECT_EQ(cut(first, "a b"), (Words{"_a", "_b"}));
  EXPECT_EQ(cut(first, "a b", false), (Words{"a", "_b"}));
  Json whole = always;
  whole["split"] = false;
  EXPECT_EQ(cut(whole, "a b"), (Words{"_a_b"}));
  EXPECT_EQ(cut({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, "a b"),
            (Words{"a", "_b"}));
}

TEST(PreTokenizer, CutsAtCharactersOfAKind) {
  EXPECT_EQ(cut({{"type", "Digits"}, {"individual_digits", true}}, "a12\u00BD"),
            (Words{"a", "1", "2", "\u00BD"}));
  EXPECT_EQ(cut({{"type", "Digits"}, {"individual_digits", false}}, "a12b"), (Words{"a", "12", "b"}));
  EXPECT_EQ(cut({{"type", "Whitespace"}}, "we'll go_on  \u00E9!?"),
            (Words{"we", "'", "ll", "go_on", "\u00E9", "!?"}));
  EXPECT_EQ(cut({{"type", "WhitespaceSplit"}}, " a!\u3000b "), (Words{"a!", "b"}));
  EXPECT_EQ(cut({{"type", "Punctuation"}}, "a,b\u3002"), (Words{"a", ",", "b", "\u3002"}));
  const Json bert = {{"type", "BertPreTokenizer"}};
  EXPECT_EQ(cut(bert, "Hey, you!?"), (Words{"Hey", ",", "you", "!", "?"}));
  EXPECT_EQ(cut(bert, " \t\u3000a\u3002\u00A0 b\xFF\n"), (Words{"a", "\u3002", "b\xFF"}));
  EXPECT_EQ(cut(bert, " \n"), Words());
  EXPECT_EQ(cut({{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}}, "a b"),
            (Words{" a", " b"}));
}

TEST(PreTokenizer, KnowsThePatternsThatAScannerKnows) {
  const auto only = [](const char* name) {
    return PreTokenizer(pre_tokenizer_family(name)->pre_tokenizer, "t").only();
  };
  EXPECT_EQ(only("gpt-2"), PreTokenizer::Only::kGpt2);
  EXPECT_EQ(only("smollm"), PreTokenizer::Only::kDigitsGpt2);
  EXPECT_EQ(only("llama-bpe"), PreTokenizer::Only::kCl100k);
  EXPECT_EQ(only("qwen2"), PreTokenizer::Only::kQwen2);
  EXPECT_EQ(only("deepseek-llm"), PreTokenizer::Only::kOther);
}

TEST(PreTokenizer, LosesNothingWithTheFamiliesPatterns) {
  RandomStream random(41, "families");
  for (const std::string_view name : pre_tokenizer_names()) {
    const PreTokenizer pre(pre_tokenizer_family(name)->pre_tokenizer, "t");
    EXPECT_TRUE(pre.byte_level() && pre.lossless()) << name;
    for (int round = 0; round < 200; ++round) {
      std::string text = random_pattern_text(random), joined;
      if (round % 4 == 0) text.insert(random.below(text.size() + 1), "\xFF\xE2");
      const auto on_word = [&](const PreTokenizer::Piece& word) { joined += word.text; };
      pre.cut({.text = text, .buffer = text, .begins_text = true}, on_word);
      ASSERT_EQ(joined, text) << name;
    }
  }
}

TEST(HostilePreTokenizer, APatternThatTakesForeverIsStopped) {
  const std::string text(4000, 'a');
  const std::string error = error_of([&] { cut(split("Regex", "(a+)+[bc]", "Isolated"), text); });
  EXPECT_NE(error.find("cannot cut the text by the pattern \"(a+)+[bc]\""), std::string::npos) << error;
}

TEST(HostilePreTokenizer, WhatIsNotKnownIsNamed) {
  EXPECT_EQ(error_of([] { cut(split("Regex", "a", "Strange"), "a"); }),
            "t: pre_tokenizer.behavior is \"Strange\"; known are Removed, Isolated, MergedWithPrevious, "
            "MergedWithNext and Contiguous");
  EXPECT_EQ(error_of([] {
              cut({{"type", "Metaspace"}, {"prepend_scheme", "x"}}, "a");
            }),
            "t: pre_tokenizer.prepend_scheme is \"x\"; known are always, first and never");
  EXPECT_EQ(error_of([] { cut(3, "a"); }), "t: pre_tokenizer must be an object, it is number");
}

}  // namespace
}  // namespace gatewright

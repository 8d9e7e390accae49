#include "gatewright/text/normalizer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "gatewright/text/base64.h"
#include "gatewright/text/unicode_text.h"
#include "gatewright/text/utf8.h"
#include "tests/testing.h"
#include "tests/text/pattern_text.h"

namespace gatewright {
namespace {

std::string normal(const Json& json, std::string_view text) {
  std::string buffer;
  return std::string(Normalizer(json, "t").apply(text, buffer));
}
Json normalizers(Json steps) { return {{"type", "Sequence"}, {"normalizers", std::move(steps)}}; }

TEST(Normalizer, BringsTextIntoNormalForms) {
  EXPECT_EQ(normal({{"type", "NFC"}}, "e\u0301 \u212B"), "\u00E9 \u00C5");
  EXPECT_EQ(normal({{"type", "NFD"}}, "\u00E9\uAC00"), "e\u0301\u1100\u1161");
  EXPECT_EQ(normal({{"type", "NFKC"}}, "\uFB01 \uFF21\u00B2"), "fi A2");
  EXPECT_EQ(normal({{"type", "NFKD"}}, "\uFB01\u00E9"), "fie\u0301");
  EXPECT_EQ(normal({{"type", "NFC"}}, "a\xFF\u0301"), "a\xFF\u0301") << "bytes that are no UTF-8 stay";
}

TEST(Normalizer, LeavesWhatUnicode9DidNotHave) {
  // U+10F46 (Unicode 11) and U+11938 (Unicode 13) are marks today: they would move, compose and go away.
  EXPECT_EQ(normal({{"type", "NFC"}}, "a\U00010F46\u0323\u0301"), "a\U00010F46\u0323\u0301");
  EXPECT_EQ(normal({{"type", "NFD"}}, "\u00E9\U00011938\u0301\u0323"), "e\u0301\U00011938\u0323\u0301");
  EXPECT_EQ(normal({{"type", "NFKC"}}, "\u32FF\uFB01"), "\u32FFfi") << "the era of 2019";
  EXPECT_EQ(normal({{"type", "StripAccents"}}, "a\U00010F46\u0301"), "a\U00010F46");
  EXPECT_EQ(normal({{"type", "StripAccents"}}, "a\u08D4"), "a") << "a mark of Unicode 9";
}

TEST(Normalizer, SeesWithUnicode8WhatBertLooksAt) {
  const Json bert = {{"type", "BertNormalizer"}};
  EXPECT_EQ(normal(bert, "a\u08D4\u0301"), "a\u08D4") << "a mark since Unicode 9";
  EXPECT_EQ(normal(bert, "a\u08E2\u061C"), "a\u08E2") << "a format character since Unicode 9";
  EXPECT_TRUE(is_punctuation(0x2E42));
  EXPECT_FALSE(is_punctuation(0x2E43)) << "since Unicode 9";
  EXPECT_TRUE(is_punctuation('+'));
  EXPECT_FALSE(is_punctuation(0xD7));
}

TEST(Normalizer, TakesForBertWhatLiesBetweenLettersAsTheWhole) {
  const Json bert = {{"type", "BertNormalizer"}};
  EXPECT_EQ(normal(bert, "E\u0301\x01\u0316X\u00C9\u00E9"), "exee")
      << "marks on both sides of what is dropped";
  EXPECT_EQ(normal(bert, std::string_view("\0a\0\xCC\0", 5)), "a\xCC");
  EXPECT_EQ(normal(bert, "\u4E2D\u4E2Da\u4E2D\u0130"), " \u4E2D  \u4E2D a \u4E2D i")
      << "longer than the text";
  EXPECT_EQ(normal(bert, "\u302E\x01\U0001D165"), normal(bert, "\u302E\U0001D165"))
      << "marks that stay are put in their order";
  std::string many, expected;
  for (int i = 0; i < 300; ++i) {
    many += "\u4E2D";
    expected += " \u4E2D ";
  }
  EXPECT_EQ(normal(bert, "A" + many + "B"), "a" + expected + "b");
}

TEST(Normalizer, ComposesPartByPartAsTheWhole) {
  RandomStream random(31, "nfc");
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (uint64_t left = 1 + random.below(12); left > 0; --left) {
      static const std::vector<std::string> kPieces = {
          "a",      "e",      "\u0301", "\u0323", "\u1100", "\u1161", "\u11A8", "\uAC00",
          "\u65E5", "\u304B", "\u3099", "\u0418", "\u0306", "\u212B", "\u0344", " "};
      text += kPieces[random.below(kPieces.size())];
    }
    // By way of the other form, which goes through the library as a whole.
    std::string decomposed, expected, found;
    append_normal(NormalForm::kNfd, text, decomposed);
    append_normal(NormalForm::kNfc, text, found);
    append_normal(NormalForm::kNfc, decomposed, expected);
    ASSERT_EQ(found, expected) << text;
    std::string again;
    append_normal(NormalForm::kNfd, found, again);
    ASSERT_EQ(again, decomposed) << text;
  }
}

TEST(Normalizer, ChangesCaseAndAccents) {
  EXPECT_EQ(normal({{"type", "Lowercase"}}, "ÄB\u0130\xFF"), "äbi\u0307\xFF");
  EXPECT_EQ(normal(normalizers({{{"type", "NFD"}}, {{"type", "StripAccents"}}}), "\u00C9t\u00E9"), "Ete");
  EXPECT_EQ(normal({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, " \u00A0a "), "a ");
  EXPECT_EQ(normal({{"type", "Strip"}}, " \n "), "");
}

TEST(Normalizer, ReplacesAndPrepends) {
  const Json spaces = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "_"}};
  const Json runs = {{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", "b"}};
  const Json prefix = {{"type", "Prepend"}, {"prepend", "_"}};
  EXPECT_EQ(normal(normalizers({prefix, spaces}), "x  y"), "_x__y");
  EXPECT_EQ(normal(prefix, ""), "");
  EXPECT_EQ(normal(runs, "aacaXa"), "bcbXb");
}

TEST(Normalizer, CleansAsBertDoes) {
  const Json bert = {{"type", "BertNormalizer"},
                     {"clean_text", true},
                     {"handle_chinese_chars", true},
                     {"strip_accents", nullptr},
                     {"lowercase", true}};
  EXPECT_EQ(normal(bert, std::string("H\u00E9\0\t\u00AD\u65E5x", 11)), "he \u0020\u65E5 x");
  EXPECT_EQ(normal(bert, "a\u0085b\vc\u00A0d"), "abc d") << "spaces that are controls go away";
  Json cased = bert;
  cased["lowercase"] = false;
  EXPECT_EQ(normal(cased, "H\u00E9"), "H\u00E9");
  cased["strip_accents"] = true;
  EXPECT_EQ(normal(cased, "H\u00E9"), "He");
}

/// A character map that turns one ASCII character into a text: the root's unit and one unit for it.
std::string map_of(char from, const std::string& to) {
  std::vector<uint32_t> units(256, 0);
  const auto byte = static_cast<uint8_t>(from);
  units[0] = 0;                               // children at 0 ^ byte
  units[byte] = byte | 1U << 8 | 200U << 10;  // a leaf, children at byte ^ 200
  units[byte ^ 200U] = 1U << 31 | 0U;         // the replacement at 0
  std::string bytes(4 + units.size() * 4, '\0');
  const auto size = static_cast<uint32_t>(units.size() * 4);
  std::memcpy(bytes.data(), &size, 4);
  std::memcpy(bytes.data() + 4, units.data(), units.size() * 4);
  return bytes + to + '\0';
}

TEST(Normalizer, AppliesACharacterMap) {
  const Json json = {{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(map_of('a', "xy"))}};
  EXPECT_EQ(normal(json, "banana \u00E9"), "bxynxynxy \u00E9");
  EXPECT_EQ(normal({{"type", "Precompiled"}, {"precompiled_charsmap", ""}}, "a"), "a");
}

TEST(HostileNormalizer, CharacterMapsAreReadWithinTheirBytes) {
  const std::string good = map_of('a', "xy");
  RandomStream random(32, "maps");
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good.substr(0, random.below(good.size() + 1));
    for (uint64_t n = random.below(4); n > 0 && !bytes.empty(); --n)
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    try {
      normal({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(bytes)}}, "banana\xFF");
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find("t: "), 0u) << e.what();
    }
  }
}

TEST(HostileNormalizer, StepsThatGrowTheTextWithoutEndAreStopped) {
  Json steps = Json::array();
  for (int i = 0; i < 60; ++i)
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  EXPECT_NE(error_of([&] { normal(normalizers(steps), "a"); }).find("the normaliser makes more than"),
            std::string::npos);
  Json deep = {{"type", "NFC"}};
  for (int i = 0; i < 20; ++i) deep = normalizers(Json::array({deep}));
  EXPECT_NE(error_of([&] { normal(deep, "a"); }).find("has too many parts"), std::string::npos);
}

TEST(Base64, ComesBack) {
  RandomStream random(33, "base64");
  for (size_t size = 0; size < 40; ++size) {
    std::string bytes;
    for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(random.below(256));
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
  }
  EXPECT_EQ(to_base64("Man is"), "TWFuIGlz");
  EXPECT_EQ(from_base64("TQ=="), "M");
  for (const char* bad : {"T", "TWE", "TW!u", "====", "TWFu=", "TQ==TQ=="})
    EXPECT_EQ(from_base64(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace gatewright

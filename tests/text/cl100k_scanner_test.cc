#include "gatewright/text/cl100k_scanner.h"

#include <gtest/gtest.h>

#include "gatewright/text/gpt2_scanner.h"
#include "tests/text/pattern_text.h"

namespace gatewright {
namespace {

using Words = std::vector<std::string>;

template <typename Scanner>
Words cl100k_words(std::string_view text) {
  Words words;
  for (Scanner scanner(text); !scanner.done();) words.emplace_back(scanner.next());
  return words;
}

const std::string kTail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string kHead = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})";

TEST(Cl100kScanner, CutsAsLlama3Does) {
  EXPECT_EQ(cl100k_words<Cl100kScanner>("I'LL say 12345!\n\n  ok"),
            (Words{"I", "'LL", " say", " ", "123", "45", "!\n\n", " ", " ok"}));
  EXPECT_EQ(cl100k_words<Cl100kScanner>("a \n \n b\t"), (Words{"a", " \n \n", " b", "\t"}));
  EXPECT_EQ(cl100k_words<Cl100kScanner>("(x) \u00A0y"), (Words{"(x", ")", " ", "\u00A0y"}));
  EXPECT_EQ(cl100k_words<Cl100kScanner>(""), Words{});
}

TEST(Cl100kScanner, CutsEachDigitForQwen2) {
  EXPECT_EQ(cl100k_words<Qwen2Scanner>("in 2024"), (Words{"in", " ", "2", "0", "2", "4"}));
}

TEST(Cl100kScanner, AgreesWithThePatternOnRandomText) {
  const Regex three(kHead + "{1,3}" + kTail, "the test"), one(kHead + kTail, "the test");
  RandomStream random(11, "cl100k");
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = random_pattern_text(random);
    ASSERT_EQ(cl100k_words<Cl100kScanner>(text), cut_by(three, text)) << text;
    ASSERT_EQ(cl100k_words<Qwen2Scanner>(text), cut_by(one, text)) << text;
  }
}

TEST(Cl100kScanner, LosesNothingOfTextThatIsNoUtf8) {
  RandomStream random(12, "bytes");
  for (int round = 0; round < 2'000; ++round) {
    std::string text, joined;
    for (uint64_t left = random.below(30); left > 0; --left) text += static_cast<char>(random.below(256));
    for (const std::string& word : cl100k_words<Cl100kScanner>(text)) joined += word;
    ASSERT_EQ(joined, text);
  }
}

TEST(DigitsGpt2Scanner, AgreesWithTheTwoPatternsOnRandomText) {
  const Regex digits(R"(\p{N})", "the test");
  const Regex gpt2(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                   "the test");
  EXPECT_EQ(cl100k_words<DigitsGpt2Scanner>("a  12 b"), (Words{"a", "  ", "1", "2", " b"}));
  RandomStream random(13, "digits");
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = random_pattern_text(random);
    Words expected;
    for (const std::string& part : cut_by(digits, text))
      for (const std::string& word : cut_by(gpt2, part)) expected.push_back(word);
    ASSERT_EQ(cl100k_words<DigitsGpt2Scanner>(text), expected) << text;
  }
}

}  // namespace
}  // namespace gatewright

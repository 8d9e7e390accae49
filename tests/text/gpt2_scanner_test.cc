#include "gatewright/text/gpt2_scanner.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gatewright/base/random.h"

namespace gatewright {
namespace {

using Words = std::vector<std::string>;

Words gpt2_words(std::string_view text) {
  Words words;
  for (Gpt2Scanner scanner(text); !scanner.done();) words.emplace_back(scanner.next());
  return words;
}

/// A compiled pattern and what it matches, one match after another.
class Pattern {
 public:
  explicit Pattern(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (!code_) throw std::runtime_error("the pattern does not compile");
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }
  Words matches(const std::string& text) const {
    Words words;
    for (size_t at = 0; at < text.size();) {
      if (pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0,
                      match_.get(), nullptr) < 1)
        break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match_.get());
      words.push_back(text.substr(range[0], range[1] - range[0]));
      at = range[1];
    }
    return words;
  }
  bool matches_all_of(const std::string& text) const { return matches(text) == Words{text}; }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

// PCRE2's \s also takes U+180E, which left White_Space in Unicode 6.3.
const std::string kOtherSpace =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

double unicode_version_of_pcre2() {
  char version[64] = {};
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
  return std::atof(version);
}

std::string character(uint32_t code) {
  std::string text;
  append_utf8(code, text);
  return text;
}

TEST(Gpt2Scanner, CutsAsGpt2Does) {
  EXPECT_EQ(gpt2_words("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(gpt2_words("we'll say it's 42nd!?"),
            (Words{"we", "'ll", " say", " it", "'s", " 42", "nd", "!?"}));
  EXPECT_EQ(gpt2_words("a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(gpt2_words("a \n\n b"), (Words{"a", " \n\n", " b"}));
  EXPECT_EQ(gpt2_words("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(gpt2_words("end  "), (Words{"end", "  "}));
  EXPECT_EQ(gpt2_words(""), Words{});
}

TEST(Gpt2Scanner, TakesContractionsOnlyWhereAWordBegins) {
  EXPECT_EQ(gpt2_words("'street"), (Words{"'s", "treet"}));
  EXPECT_EQ(gpt2_words(" 's"), (Words{" '", "s"}));
  EXPECT_EQ(gpt2_words("!'s"), (Words{"!'", "s"}));
  EXPECT_EQ(gpt2_words("I'LL"), (Words{"I", "'", "LL"}));
  EXPECT_EQ(gpt2_words("'l'"), (Words{"'", "l", "'"}));
}

TEST(Gpt2Scanner, KnowsLettersNumbersAndSpacesOfOtherScripts) {
  EXPECT_EQ(gpt2_words("Größe в ٣٤"), (Words{"Größe", " в", " ٣٤"}));
  EXPECT_EQ(gpt2_words("日本\u3000\u3000語"), (Words{"日本", "\u3000", "\u3000", "語"}));
  EXPECT_EQ(gpt2_words("x² ½"), (Words{"x", "²", " ½"}));
}

TEST(Gpt2Scanner, TakesInvalidBytesForSymbols) {
  EXPECT_EQ(gpt2_words("a\xFF\xFE b"), (Words{"a", "\xFF\xFE", " b"}));
  EXPECT_EQ(gpt2_words("\xC3"), (Words{"\xC3"}));                              // cut off
  EXPECT_EQ(gpt2_words("a\xC0\x80z"), (Words{"a", "\xC0\x80", "z"}));          // overlong
  EXPECT_EQ(gpt2_words("a\xED\xA0\x80z"), (Words{"a", "\xED\xA0\x80", "z"}));  // a surrogate
}

TEST(Gpt2Scanner, HasTheClassesOfPcre2ForEveryCodePoint) {
  if (unicode_version_of_pcre2() > 16) GTEST_SKIP() << "PCRE2 is newer than our tables of Unicode 16";
  const Pattern letter(R"(\p{L})"), number(R"(\p{N})"), unassigned(R"(\p{Cn})"),
      space("[" + kOtherSpace + "]");
  for (uint32_t code = 0; code < CharacterClassTable::kCodePoints; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string text = character(code);
    const CharacterClass expected = letter.matches_all_of(text)   ? CharacterClass::kLetter
                                    : number.matches_all_of(text) ? CharacterClass::kNumber
                                    : space.matches_all_of(text)  ? CharacterClass::kSpace
                                                                  : CharacterClass::kOther;
    if (unassigned.matches_all_of(text)) continue;
    ASSERT_EQ(character_class(character_class_table(), code), expected) << "code point " << code;
  }
}

/// Text in which the rules meet: mostly characters that some rule names, some from anywhere.
std::string random_text(RandomStream& random, const Pattern& assigned) {
  static const std::vector<std::string> kPieces = {
      " ",   " ", "  ", "\n",     "\t",     "\r\n",   "'",      "'s",     "'re", "'l",
      "'ll", "a", "B",  "vel",    "1",      "23",     "!",      "...",    "é",   "я",
      "日",  "٣", "½",  "\u00A0", "\u2003", "\u3000", "\u180E", "\u0301", "😀",   "_"};
  std::string text;
  for (uint64_t left = 1 + random.below(24); left > 0; --left) {
    if (random.below(8) != 0) {
      text += kPieces[random.below(kPieces.size())];
      continue;
    }
    const auto code = static_cast<uint32_t>(random.below(random.below(2) ? 0x3000 : 0x20000));
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string other = character(code);
    if (assigned.matches_all_of(other)) text += other;
  }
  return text;
}

TEST(Gpt2Scanner, AgreesWithThePatternOnRandomText) {
  if (unicode_version_of_pcre2() > 16) GTEST_SKIP() << "PCRE2 is newer than our tables of Unicode 16";
  const Pattern pattern(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" + kOtherSpace +
                        R"(\p{L}\p{N}]+|[)" + kOtherSpace + "]+(?![^" + kOtherSpace + "])|[" + kOtherSpace +
                        "]+");
  const Pattern assigned(R"(\P{Cn})");
  RandomStream random(3, "scanner");
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = random_text(random, assigned);
    ASSERT_EQ(gpt2_words(text), pattern.matches(text)) << text;
  }
}

TEST(Gpt2Scanner, CutsInvalidTextWhereItWouldCutSymbols) {
  RandomStream random(4, "invalid");
  for (int round = 0; round < 2'000; ++round) {
    std::string text, symbols;
    for (uint64_t left = random.below(30); left > 0; --left) {
      const bool broken = random.below(3) == 0;
      text += broken ? '\xFF' : "a 1.\n'"[random.below(6)];
      symbols += broken ? '#' : text.back();
    }
    Words expected = gpt2_words(symbols);
    const Words found = gpt2_words(text);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].size(), expected[i].size());
  }
}

TEST(Gpt2Scanner, FindsTheSameWordsFromAnyBorder) {
  RandomStream random(5, "borders");
  const Pattern assigned(R"(\P{Cn})");
  for (int round = 0; round < 2'000; ++round) {
    const std::string text = random_text(random, assigned);
    const size_t border = Gpt2Scanner::next_border(text, random.below(text.size() + 1));
    Words words;
    for (Gpt2Scanner scanner(text); scanner.position() < border;) words.emplace_back(scanner.next());
    for (Gpt2Scanner scanner(text, border); !scanner.done();) words.emplace_back(scanner.next());
    ASSERT_EQ(words, gpt2_words(text)) << text << " cut at " << border;
  }
}

}  // namespace
}  // namespace gatewright

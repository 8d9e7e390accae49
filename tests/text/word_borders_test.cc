#include "gatewright/text/word_borders.h"

#include <gtest/gtest.h>

#include "gatewright/base/random.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {
namespace {

TokenizerDefinition vocabulary(std::vector<std::string> tokens, TokenizerKind kind) {
  TokenizerDefinition made;
  made.kind = kind;
  for (size_t i = 0; i < tokens.size(); ++i)
    made.scores.push_back(-1 - 0.7 * static_cast<double>(i * 7 % 11));
  made.tokens = std::move(tokens);
  made.unknown = 0;
  made.fuse_unknown = true;
  return made;
}

std::vector<std::string> words(const TokenizerDefinition& definition, std::string_view text) {
  const WordBorders borders(definition);
  std::vector<std::string> cut;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = borders.end_of_word(text, begin);
    cut.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return cut;
}

TEST(WordBorders, LieWhereNoTokenReachesOver) {
  const auto definition =
      vocabulary({"?", "\u2581", "a", "b", ",", "ab", "\u2581a", "\u2581\u2581"}, TokenizerKind::kScoredBpe);
  EXPECT_EQ(words(definition, "\u2581ab,a\u2581\u2581ab"),
            (std::vector<std::string>{"\u2581ab", ",", "a", "\u2581\u2581ab"}));
  EXPECT_EQ(words(definition, "xxa"), (std::vector<std::string>{"xxa"}))
      << "unknown characters stay together";
}

TEST(WordBorders, AreNotBeforeAMarkWithinAToken) {
  EXPECT_EQ(words(vocabulary({"?", "\u2581", "a", "a\u2581a"}, TokenizerKind::kScoredBpe), "a\u2581a").size(),
            1u);
}

TEST(WordBorders, ChangeNoTokens) {
  RandomStream random(51, "borders");
  const std::vector<std::string> letters = {"a", "b", ",", "x", "\u2581", "\u00E9"};
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> tokens = {"?", "\u2581", "a", "b", ","};
    for (int i = 0; i < 8; ++i) {
      std::string token;
      for (uint64_t left = 2 + random.below(2); left > 0; --left)
        token += letters[random.below(letters.size())];
      if (std::ranges::find(tokens, token) == tokens.end()) tokens.push_back(token);
    }
    for (const TokenizerKind kind : {TokenizerKind::kScoredBpe, TokenizerKind::kUnigram}) {
      const TokenizerDefinition definition = vocabulary(tokens, kind);
      const auto model = make_tokenizer_model(definition, "t");
      std::string text;
      for (uint64_t left = 1 + random.below(20); left > 0; --left)
        text += letters[random.below(letters.size())];
      std::vector<int32_t> whole, parts;
      model->encode_word(text, whole);
      for (const std::string& word : words(definition, text)) model->encode_word(word, parts);
      double whole_score = 0, parts_score = 0;  // Unigram may choose another cut of the same score
      for (const int32_t id : whole) whole_score += definition.scores[static_cast<size_t>(id)];
      for (const int32_t id : parts) parts_score += definition.scores[static_cast<size_t>(id)];
      if (kind == TokenizerKind::kScoredBpe) {
        ASSERT_EQ(parts, whole) << text;
      }
      ASSERT_NEAR(parts_score, whole_score, 1e-9) << text;
    }
  }
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/sentencepiece_model.h"

#include <gtest/gtest.h>

#include <bit>

#include "gatewright/base/random.h"
#include "gatewright/text/tokenizer.h"
#include "tests/testing.h"
#include "tests/text/sentencepiece_bytes.h"

namespace gatewright {
namespace {

using Ids = std::vector<int32_t>;

Tokenizer tokenizer_of(const std::string& bytes) {
  return Tokenizer(read_sentencepiece_model(bytes, "m"), "m");
}
std::string error(const std::string& bytes) {
  return error_of([&] { tokenizer_of(bytes); });
}

TEST(SentencePieceModel, ReadsUnigram) {
  // "_abab": _ab + ab costs 3 + 4, _a b ab 2 + 3 + 4, _aba b 6 + 3.
  const Tokenizer tokenizer = tokenizer_of(small_sentencepiece_model(1));
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kUnigram);
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{4, 5}));
  EXPECT_EQ(tokenizer.encode("ab  ab "), (Ids{4, 4})) << "extra spaces go";
  EXPECT_EQ(tokenizer.encode("xyz"), (Ids{8, 0})) << "unknown characters together are one token";
  EXPECT_EQ(tokenizer.decode(Ids{4, 5, 4}), "abab ab");
  EXPECT_EQ(tokenizer.begin(), 1);
  EXPECT_EQ(tokenizer.end(), 2);
}

TEST(SentencePieceModel, ReadsBpe) {
  const Tokenizer tokenizer = tokenizer_of(small_sentencepiece_model(2));
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kScoredBpe);
  EXPECT_EQ(tokenizer.encode("ab", {.add_special = true}), (Ids{1, 4}));
}

TEST(SentencePieceModel, FindsTheCutOfTheHighestSum) {
  // Against all cuts, by recursion.
  RandomStream random(21, "viterbi");
  TokenizerDefinition definition;
  definition.kind = TokenizerKind::kUnigram;
  for (const char* token : {"a", "b", "ab", "ba", "aab", "bab", "abba"}) {
    definition.tokens.emplace_back(token);
    definition.scores.push_back(-1 - 0.37 * static_cast<double>(random.below(20)));
  }
  const Tokenizer tokenizer(definition);
  const auto best = [&](const auto& self, std::string_view rest) -> double {
    if (rest.empty()) return 0;
    double highest = -1e9;
    for (size_t id = 0; id < definition.tokens.size(); ++id)
      if (rest.starts_with(definition.tokens[id]))
        highest =
            std::max(highest, definition.scores[id] + self(self, rest.substr(definition.tokens[id].size())));
    return highest;
  };
  for (int round = 0; round < 200; ++round) {
    std::string word;
    for (uint64_t left = 1 + random.below(14); left > 0; --left) word += random.below(2) ? 'a' : 'b';
    double sum = 0;
    for (const int32_t id : tokenizer.encode(word)) sum += definition.scores[static_cast<size_t>(id)];
    EXPECT_NEAR(sum, best(best, word), 1e-9) << word;
  }
}

TEST(SentencePieceModel, RefusesEveryCutOffFile) {
  const std::string whole = small_sentencepiece_model(1);
  for (size_t size = 0; size < whole.size(); ++size) {
    try {
      tokenizer_of(whole.substr(0, size));
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find("m: "), 0u) << e.what();
    }
  }
}

TEST(HostileSentencePieceModel, SizesAreCheckedAgainstTheBytesThatAreLeft) {
  EXPECT_EQ(error(std::string("\x0A\xFF\xFF\xFF\xFF\x0F", 6)),
            "m: a field of 4294967295 bytes, where 0 are left");
  EXPECT_EQ(error(std::string(11, '\xFF')), "m: a number of more than 64 bits");
  EXPECT_EQ(error("\x0B"), "m: a field has the wire type 3");
  EXPECT_EQ(error(std::string("\x08\x01", 2)), "m: a part of the model has the wire type 0, 2 was expected");
  EXPECT_EQ(error(""), "m: the model has no pieces");
}

TEST(HostileSentencePieceModel, WhatItsFieldsSayIsChecked) {
  EXPECT_EQ(error(small_sentencepiece_model(3)),
            "m: the model has the type 3; read are 1 (Unigram) and 2 (BPE)");
  EXPECT_EQ(error(piece("a", 0, 9) + small_sentencepiece_model(1)),
            "m: token 0 has the type 9; types go from 1 to 6");
  EXPECT_EQ(error(piece("a", std::numeric_limits<float>::infinity()) + field(2, varint_field(41, 0))),
            "m: the score of token 0 is inf");
  EXPECT_EQ(error(piece("a", 0) + piece("a", 0)), "m: the tokens 0 and 1 are both \"a\"");
  EXPECT_EQ(error(piece("a", 0) + field(2, varint_field(41, 77))),
            "m: bos_id is 77, the model has ids 0 to 0");
  EXPECT_EQ(error(small_sentencepiece_model(1) + field(3, field(2, "abc"))),
            "m: the character map of 3 bytes is cut off");
}

TEST(HostileSentencePieceModel, RandomBytesAreRefusedOrRead) {
  RandomStream random(22, "bytes");
  const std::string whole = small_sentencepiece_model(2);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    for (uint64_t n = 1 + random.below(4); n > 0; --n)
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    try {
      const Tokenizer tokenizer = tokenizer_of(bytes);
      tokenizer.decode(tokenizer.encode("ab abc x"));
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find("m: "), 0u) << e.what();
    }
  }
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/random.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/gpt2_scanner.h"

namespace gatewright {
namespace {

std::vector<std::string> merges(const Tokenizer& tokenizer) {
  std::vector<std::string> result;
  for (const BpeMerge& merge : tokenizer.definition().merges)
    result.push_back(tokenizer.token_bytes(merge.left) + "+" + tokenizer.token_bytes(merge.right));
  return result;
}

BpeTraining train(std::string_view text, BpeTrainerOptions options) {
  BpeTrainer trainer;
  trainer.add(text);
  return trainer.train(options);
}

/// Training by its definition: counts all pairs anew before each merge. Nothing is kept up to date, so
/// nothing can go out of date.
std::vector<std::string> naive_merges(std::string_view text, int64_t vocab_size, int64_t min_frequency) {
  std::vector<std::string> tokens;
  for (const uint8_t byte : byte_alphabet_order()) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back(kEndOfText);
  std::map<std::vector<size_t>, int64_t> words;
  for (Gpt2Scanner scanner(text); !scanner.done();) {
    std::vector<size_t> word;
    for (const char c : scanner.next())
      word.push_back(size_t(std::ranges::find(tokens, std::string(1, c)) - tokens.begin()));
    ++words[word];
  }
  std::vector<std::string> result;
  while (static_cast<int64_t>(tokens.size()) < vocab_size) {
    std::map<std::pair<size_t, size_t>, int64_t> counts;
    for (const auto& [word, count] : words)
      for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
    const auto best =
        std::ranges::max_element(counts, {}, [](const auto& pair) { return pair.second; });  // the first
    if (best == counts.end() || best->second < min_frequency) break;
    const auto [left, right] = best->first;
    result.push_back(tokens[left] + "+" + tokens[right]);
    const std::string joined = tokens[left] + tokens[right];
    const auto id = size_t(std::ranges::find(tokens, joined) - tokens.begin());
    if (id == tokens.size()) tokens.push_back(joined);
    std::map<std::vector<size_t>, int64_t> merged_words;
    for (const auto& [word, count] : words) {
      std::vector<size_t> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool here = word[i] == left && i + 1 < word.size() && word[i + 1] == right;
        merged.push_back(here ? id : word[i]);
        i += here;
      }
      merged_words[merged] += count;
    }
    words.swap(merged_words);
  }
  return result;
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  const BpeTraining training = train("aaabdaaabac", {.vocab_size = 260, .min_frequency = 2});
  // a+a occurs 4 times, which leaves aa a b d aa a b a c: a+b and aa+a occur twice, the lower ids win; then
  // aa+ab occurs twice.
  EXPECT_EQ(merges(training.tokenizer), (std::vector<std::string>{"a+a", "a+b", "aa+ab"}));
  EXPECT_EQ(training.merges, 3);
  EXPECT_FALSE(training.ran_out);
  EXPECT_EQ(training.tokenizer.vocab_size(), 260);
  EXPECT_EQ(training.tokenizer.token_bytes(259), "aaab");
  EXPECT_EQ(training.tokenizer.encode("aaabc").size(), 2u);
}

TEST(BpeTrainer, BreaksTiesByTheLowerIds) {
  EXPECT_EQ(merges(train("ba ba dc dc", {.vocab_size = 258, .min_frequency = 1}).tokenizer).front(), "b+a");
  // Visible characters have lower ids than the space.
  EXPECT_EQ(merges(train(" x x yz yz", {.vocab_size = 258, .min_frequency = 1}).tokenizer).front(), "y+z");
}

TEST(BpeTrainer, StopsWhenNoPairIsLeft) {
  const BpeTraining training = train("abab cd", {.vocab_size = 1000, .min_frequency = 2});
  EXPECT_TRUE(training.ran_out);
  EXPECT_EQ(merges(training.tokenizer), (std::vector<std::string>{"a+b"}));
  EXPECT_EQ(training.tokenizer.vocab_size(), 258);
  EXPECT_TRUE(train("", {.vocab_size = 258}).ran_out);
  EXPECT_FALSE(train("", {.vocab_size = 257}).ran_out);
}

TEST(BpeTrainer, HasBytesThenEndOfTextThenMerges) {
  const Tokenizer tokenizer = train("abab", {.vocab_size = 258}).tokenizer;
  EXPECT_EQ(tokenizer.token_bytes(0), "!");
  EXPECT_EQ(tokenizer.end_of_text(), 256);
  EXPECT_EQ(tokenizer.token_bytes(257), "ab");
}

TEST(BpeTrainer, AgreesWithTrainingByDefinition) {
  RandomStream random(6, "trainer");
  for (int round = 0; round < 120; ++round) {
    std::string text;
    const uint64_t letters = 1 + random.below(4);
    for (uint64_t left = random.below(400); left > 0; --left)
      text += random.below(6) == 0 ? ' ' : static_cast<char>('a' + random.below(letters));
    const auto min_frequency = static_cast<int64_t>(1 + random.below(3));
    const BpeTraining training = train(text, {.vocab_size = 300, .min_frequency = min_frequency});
    ASSERT_EQ(merges(training.tokenizer), naive_merges(text, 300, min_frequency)) << text;
    EXPECT_EQ(training.tokenizer.decode(training.tokenizer.encode(text)), text);
  }
}

TEST(BpeTrainer, DependsOnlyOnHowOftenEachWordOccurs) {
  const std::string one = "the cat sat on the mat", other = " and the dog sat, too";
  BpeTrainer forward, backward;
  forward.add(one);
  forward.add(other);
  backward.add(other);
  backward.add(one);
  const BpeTrainerOptions options{.vocab_size = 280, .min_frequency = 1};
  EXPECT_EQ(forward.train(options).tokenizer.to_json(), backward.train(options).tokenizer.to_json());
}

TEST(BpeTrainer, IsTheSameWithAnyNumberOfThreads) {
  RandomStream random(7, "threads");
  std::string text;
  while (text.size() < 5'000'000) {
    text += random.below(5) == 0 ? '\n' : ' ';
    for (uint64_t left = 1 + random.below(4); left > 0; --left)
      text += static_cast<char>('a' + random.below(8));
  }
  const int before = num_threads();
  std::vector<std::string> results;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    results.push_back(train(text, {.vocab_size = 400}).tokenizer.to_json());
  }
  set_num_threads(before);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(BpeTrainer, ReportsItsProgress) {
  std::vector<int64_t> reported;
  const BpeTrainerOptions options{
      .vocab_size = 260, .min_frequency = 1, .progress = [&](int64_t merges, int64_t wanted) {
        EXPECT_EQ(wanted, 3);
        reported.push_back(merges);
      }};
  train("abcdef", options);
  EXPECT_EQ(reported, std::vector<int64_t>{3});
}

TEST(BpeTrainer, RefusesVocabulariesThatCannotBe) {
  const auto message = [](BpeTrainerOptions options) -> std::string {
    try {
      train("text", options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(message({.vocab_size = 256}),
            "the vocabulary must have at least 257 tokens (256 bytes and <|endoftext|>), and at most "
            "2147483647; got 256");
  EXPECT_EQ(message({.min_frequency = 0}), "the least frequency of a pair must be at least 1, got 0");
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/tokenized_corpus.h"

#include <gmock/gmock.h>

#include "gatewright/base/random.h"
#include "gatewright/text/packing.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

/// Bytes, "ab" as token 256 and an end of text.
Tokenizer small_tokenizer() {
  BpeVocabulary vocabulary;
  for (int i = 0; i < 256; ++i) vocabulary.tokens.emplace_back(1, static_cast<char>(i));
  vocabulary.tokens.emplace_back("ab");
  vocabulary.tokens.emplace_back(kEndOfText);
  vocabulary.merges.push_back({.left = 'a', .right = 'b', .result = 256});
  vocabulary.added.push_back({.id = 257, .content = std::string(kEndOfText)});
  return Tokenizer(std::move(vocabulary));
}

TEST(TokenizedCorpus, KnowsTheBytesOfEachToken) {
  const std::vector<int32_t> lengths = token_byte_lengths(small_tokenizer());
  ASSERT_EQ(lengths.size(), 258U);
  EXPECT_EQ(lengths['a'], 1);
  EXPECT_EQ(lengths[256], 2);
  EXPECT_EQ(lengths[257], 0);
}

TEST(TokenizedCorpus, PredictedBytesAreTheBytesOfTheText) {
  const TemporaryFolder folder;
  RandomStream random(1, "text");
  std::vector<Document> documents;
  for (int i = 0; i < 60; ++i) {
    std::string text = std::to_string(i);
    for (uint64_t n = random.below(200); n > 0; --n)
      text += random.below(3) == 0 ? "ab" : "<|endoftext|> é\xff";
    documents.push_back({i % 2 == 0 ? "x" : "y", "", text});
  }
  const Corpus corpus = Corpus::from_documents(documents, {.validation_share = 0.4});
  const Tokenizer tokenizer = small_tokenizer();
  const TokenCache cache = tokenize_corpus(folder.path(), tokenizer, corpus);
  int64_t bytes = 0;
  for (const CorpusDocument& document : corpus.validation())
    bytes += static_cast<int64_t>(document.text.size());
  ValidationStream stream(cache, 33, token_byte_lengths(tokenizer));
  EXPECT_EQ(stream.next(stream.sequences()).bytes, bytes);
  EXPECT_EQ(tokenize_corpus(folder.path(), tokenizer, corpus).origin(), TokenCache::Origin::kOpened);
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/packing.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "gatewright/base/random.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TokenCache cache_of(const TemporaryFolder& folder, const Corpus& corpus) {
  return TokenCache::open_or_build(folder.path(), byte_tokenizer(), corpus, encode_bytes);
}

/// Documents of random letters; the number in front keeps them distinct.
std::vector<Document> random_documents(int count, uint64_t longest, uint64_t seed) {
  RandomStream random(seed, "documents");
  std::vector<Document> documents;
  for (int i = 0; i < count; ++i) {
    std::string text = std::to_string(i) + ":";
    for (uint64_t n = random.below(longest); n > 0; --n) text += static_cast<char>('a' + random.below(26));
    documents.push_back({.domain = i % 3 == 0 ? "a" : "b", .source = "", .text = text});
  }
  return documents;
}

/// The documents that the batches tell: each begins with the end of text and ends with it as a target. Pieces
/// of documents that go on in another sequence come back under "", cut where the sequence was.
std::vector<std::string> pieces_of(const PackedBatch& batch) {
  std::vector<std::string> pieces;
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const size_t in_row = i % static_cast<size_t>(batch.length);
    if (batch.first_key[i] == static_cast<int32_t>(in_row) && batch.targets[i] >= 0) pieces.emplace_back();
    if (batch.targets[i] >= 0 && batch.targets[i] != kEnd)
      pieces.back() += static_cast<char>(batch.targets[i]);
  }
  return pieces;
}

TEST(Packing, LaysDocumentsEndToEndAndKeepsTheirBoundaries) {
  const TemporaryFolder folder;
  const Corpus corpus =
      Corpus::from_documents({{"x", "", "abc"}, {"y", "", "defgh"}}, {.validation_share = 1});
  const TokenCache cache = cache_of(folder, corpus);
  ValidationStream stream(cache, 6, byte_lengths());
  EXPECT_EQ(stream.sequences(), 2);
  const PackedBatch batch = stream.next(8);
  EXPECT_EQ(batch.sequences, 2);
  EXPECT_THAT(batch.tokens, ElementsAre(kEnd, 'a', 'b', 'c', kEnd, 'd', 'e', 'f', 'g', 'h', kEnd, kEnd));
  EXPECT_THAT(batch.targets, ElementsAre('a', 'b', 'c', kEnd, 'd', 'e', 'f', 'g', 'h', kEnd, -1, -1));
  EXPECT_THAT(batch.first_key, ElementsAre(0, 0, 0, 0, 4, 4, 0, 0, 0, 0, 4, 5));
  EXPECT_THAT(batch.domain, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_EQ(batch.bytes, 8);
  EXPECT_THAT(batch.domain_bytes, ElementsAre(3, 5));
  EXPECT_EQ(stream.next(8).sequences, 0);
}

TEST(Packing, WithoutAnEndOfTextPredictsWithinDocumentsOnly) {
  const TemporaryFolder folder;
  const Corpus corpus =
      Corpus::from_documents({{"x", "", "abc"}, {"x", "", "d"}, {"x", "", "ef"}}, {.validation_share = 1});
  const TokenizerFacts tokenizer{.fingerprint = 1, .vocab_size = 256, .end_of_text = std::nullopt};
  const TokenCache cache = TokenCache::open_or_build(folder.path(), tokenizer, corpus, encode_bytes);
  const PackedBatch batch = ValidationStream(cache, 4, std::vector<int32_t>(256, 1)).next(1);
  EXPECT_THAT(batch.tokens, ElementsAre('a', 'b', 'e', 0));
  EXPECT_THAT(batch.targets, ElementsAre('b', 'c', 'f', -1));
  EXPECT_THAT(batch.first_key, ElementsAre(0, 0, 2, 3));
  EXPECT_EQ(batch.bytes, 3);
}

TEST(Packing, AttentionNeverReachesAcrossADocument) {
  const TemporaryFolder folder;
  const TokenCache cache = cache_of(folder, training_corpus(random_documents(60, 40, 1)));
  TrainStream stream(cache, 16, byte_lengths(), 3);
  const PackedBatch batch = stream.next(stream.sequences_per_epoch());
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const size_t row = i - i % 16, first = row + static_cast<size_t>(batch.first_key[i]);
    ASSERT_LE(first, i);
    // A document begins with the end of text, or with the sequence; there is none after its first token.
    EXPECT_TRUE(first == row || batch.tokens[first] == kEnd);
    for (size_t k = first + 1; k <= i; ++k) EXPECT_NE(batch.tokens[k], kEnd) << k;
  }
}

TEST(TrainStream, ShowsEveryTokenOnceAnEpoch) {
  const TemporaryFolder folder;
  const std::vector<Document> documents = random_documents(50, 70, 2);
  const TokenCache cache = cache_of(folder, training_corpus(documents));
  TrainStream stream(cache, 32, byte_lengths(), 5);
  std::map<char, int> wanted, found;
  int64_t bytes = 0;
  for (const Document& document : documents)
    for (char c : document.text) ++wanted[c], ++bytes;
  for (int epoch = 0; epoch < 3; ++epoch) {
    found.clear();
    const PackedBatch batch = stream.next(stream.sequences_per_epoch());
    for (const std::string& piece : pieces_of(batch))
      for (char c : piece) ++found[c];
    EXPECT_EQ(found, wanted);
    EXPECT_EQ(batch.bytes, bytes);
    EXPECT_EQ(std::ranges::count(batch.targets, kEnd), 50);
    EXPECT_EQ(stream.tokens_per_epoch(), bytes + 50);
    for (size_t i = 0; i < batch.tokens.size(); ++i)
      EXPECT_TRUE(batch.targets[i] >= 0 || batch.tokens[i] == kEnd);
  }
}

TEST(TrainStream, KeepsShortDocumentsWhole) {
  const TemporaryFolder folder;
  const std::vector<Document> documents = random_documents(20, 10, 3);
  const TokenCache cache = cache_of(folder, training_corpus(documents));
  // One sequence holds everything, so every document must come back as it was.
  TrainStream stream(cache, 400, byte_lengths(), 1);
  ASSERT_EQ(stream.sequences_per_epoch(), 1);
  std::vector<std::string> texts;
  for (const Document& document : documents) texts.push_back(document.text);
  EXPECT_THAT(pieces_of(stream.next(1)), testing::UnorderedElementsAreArray(texts));
}

void expect_same(const PackedBatch& a, const PackedBatch& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.first_key, b.first_key);
  EXPECT_EQ(a.domain, b.domain);
  EXPECT_EQ(a.bytes, b.bytes);
}

TEST(TrainStream, ResumesExactlyWhereItWas) {
  const TemporaryFolder folder;
  const TokenCache cache = cache_of(folder, training_corpus(random_documents(40, 50, 4)));
  TrainStream whole(cache, 16, byte_lengths(), 9);
  std::vector<PackedBatch> batches;
  std::vector<TrainStream::State> states;
  for (int i = 0; i < 60; ++i) {
    states.push_back(whole.state());
    batches.push_back(whole.next(3));
  }
  ASSERT_GT(states.back().epoch, 1);
  for (size_t i : {0, 1, 17, 30, 59}) {
    TrainStream resumed(cache, 16, byte_lengths(), 9);
    resumed.seek(states[i]);
    for (size_t k = i; k < batches.size(); ++k) expect_same(resumed.next(3), batches[k]);
  }
}

TEST(TrainStream, ShufflesBySeedAndEpoch) {
  const TemporaryFolder folder;
  const TokenCache cache = cache_of(folder, training_corpus(random_documents(40, 50, 5)));
  TrainStream a(cache, 16, byte_lengths(), 1), same(cache, 16, byte_lengths(), 1),
      other(cache, 16, byte_lengths(), 2);
  const int64_t all = a.sequences_per_epoch();
  const PackedBatch first = a.next(all);
  EXPECT_EQ(first.tokens, same.next(all).tokens);
  EXPECT_NE(first.tokens, other.next(all).tokens);
  EXPECT_NE(first.tokens, a.next(all).tokens);
}

TEST(TrainStream, RefusesAPlaceThatDoesNotExist) {
  const TemporaryFolder folder;
  const TokenCache cache = cache_of(folder, training_corpus({{"x", "", "abcdefg"}}));
  TrainStream stream(cache, 4, byte_lengths(), 1);
  EXPECT_THAT(error_of([&] { stream.seek({.epoch = 0, .position = 3}); }),
              HasSubstr("no place 3 of epoch 0: an epoch has 2 sequences of 4 tokens"));
  EXPECT_THAT(error_of([&] { stream.next(0); }), HasSubstr("at least one sequence"));
  EXPECT_THAT(error_of([&] {
                TrainStream(cache, 4, {1, 2, 3}, 1);
              }),
              HasSubstr("byte lengths of 3 tokens were given for a vocabulary of 257"));
  EXPECT_THAT(error_of([&] { ValidationStream(cache, 4, byte_lengths()); }), HasSubstr("no validation text"));
}

TEST(ValidationStream, SumsToTheBytesOfTheDocuments) {
  const TemporaryFolder folder;
  const Corpus corpus = Corpus::from_documents(random_documents(80, 60, 6), {.validation_share = 0.3});
  const TokenCache cache = cache_of(folder, corpus);
  for (const int64_t length : {1, 7, 64, 1000}) {
    ValidationStream stream(cache, length, byte_lengths());
    int64_t bytes = 0, sequences = 0, targets = 0;
    std::vector<int64_t> domain_bytes(2, 0);
    for (PackedBatch batch = stream.next(4); batch.sequences > 0; batch = stream.next(4)) {
      bytes += batch.bytes;
      sequences += batch.sequences;
      targets += std::ranges::count_if(batch.targets, [](int32_t id) { return id >= 0; });
      for (size_t d = 0; d < 2; ++d) domain_bytes[d] += batch.domain_bytes[d];
    }
    EXPECT_EQ(bytes, cache.bytes(Part::kValidation));
    EXPECT_EQ(domain_bytes[0] + domain_bytes[1], bytes);
    EXPECT_EQ(sequences, stream.sequences());
    EXPECT_EQ(targets, cache.tokens(Part::kValidation));
  }
}

TEST(ValidationStream, SpreadsAFewSequencesOverAll) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(32 + i % 90);
  const Corpus corpus = Corpus::from_documents({{"x", "", text}}, {.validation_share = 1});
  const TokenCache cache = cache_of(folder, corpus);
  ValidationStream stream(cache, 10, byte_lengths(), Part::kValidation, 3);  // of 11: numbers 0, 3 and 7
  EXPECT_EQ(stream.sequences(), 3);
  const PackedBatch batch = stream.next(5);
  EXPECT_THAT(batch.sequences, 3);
  EXPECT_EQ(batch.targets[0], 32);
  EXPECT_EQ(batch.targets[10], 32 + 30);
  EXPECT_EQ(batch.targets[20], 32 + 70);
  stream.rewind();
  EXPECT_EQ(stream.next(5).tokens, batch.tokens);
}

}  // namespace
}  // namespace gatewright

#include "gatewright/text/token_cache.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <functional>

#include "gatewright/base/random.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Corpus small_corpus() {
  return Corpus::from_documents({{"b", "", "abc"}, {"a", "", "defg"}, {"a", "", "h"}, {"b", "", "ij"}},
                                {.validation_share = 0.3});
}

std::vector<int32_t> tokens_of(const TokenCache& cache, Part part, int64_t document) {
  std::vector<int32_t> ids(static_cast<size_t>(cache.document(part, document).tokens));
  cache.copy_tokens(part, document, 0, ids);
  return ids;
}

TEST(TokenCache, HoldsDocumentsOfBothPartsWithTheirEnd) {
  const TemporaryFolder folder;
  const Corpus corpus = small_corpus();
  const TokenCache cache =
      TokenCache::open_or_build(folder / "new/cache", byte_tokenizer(), corpus, encode_bytes);
  EXPECT_EQ(cache.origin(), TokenCache::Origin::kBuilt);
  EXPECT_THAT(cache.domains(), ElementsAre("a", "b"));
  EXPECT_EQ(cache.end_of_text(), kEnd);
  EXPECT_EQ(cache.vocab_size(), 257);
  for (const Part part : {Part::kTrain, Part::kValidation}) {
    const auto& documents = part == Part::kTrain ? corpus.train() : corpus.validation();
    ASSERT_EQ(cache.documents(part), static_cast<int64_t>(documents.size()));
    int64_t tokens = 0, bytes = 0;
    for (int64_t i = 0; i < cache.documents(part); ++i) {
      std::vector<int32_t> wanted;
      encode_bytes(documents[i].text, wanted);
      wanted.push_back(kEnd);
      EXPECT_EQ(tokens_of(cache, part, i), wanted);
      EXPECT_EQ(cache.document(part, i).domain, documents[i].domain);
      EXPECT_EQ(cache.document(part, i).bytes, static_cast<int64_t>(documents[i].text.size()));
      tokens += static_cast<int64_t>(wanted.size());
      bytes += static_cast<int64_t>(documents[i].text.size());
    }
    EXPECT_EQ(cache.tokens(part), tokens);
    EXPECT_EQ(cache.bytes(part), bytes);
  }
}

TEST(TokenCache, IsFoundAgainForTheSameCorpusAndTokenizerOnly) {
  const TemporaryFolder folder;
  std::atomic<int> calls = 0;
  const EncodeFunction encode = [&](std::string_view text, std::vector<int32_t>& ids) {
    ++calls;
    encode_bytes(text, ids);
  };
  const auto open = [&](const TokenizerFacts& tokenizer, const Corpus& corpus) {
    return TokenCache::open_or_build(folder.path(), tokenizer, corpus, encode);
  };
  open(byte_tokenizer(), small_corpus());
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(open(byte_tokenizer(), small_corpus()).origin(), TokenCache::Origin::kOpened);
  EXPECT_EQ(calls, 4);
  TokenizerFacts other = byte_tokenizer();
  other.fingerprint = 8;
  EXPECT_EQ(open(other, small_corpus()).origin(), TokenCache::Origin::kBuilt);
  EXPECT_EQ(open(byte_tokenizer(), training_corpus({{"a", "", "x"}})).origin(), TokenCache::Origin::kBuilt);
  EXPECT_EQ(calls, 9);
}

TEST(TokenCache, TakesFourBytesForALargeVocabulary) {
  const TemporaryFolder folder;
  const TokenizerFacts tokenizer{.fingerprint = 1, .vocab_size = 70000, .end_of_text = std::nullopt};
  const auto encode = [](std::string_view text, std::vector<int32_t>& ids) {
    for (char c : text) ids.push_back(69900 + c - 'a');
  };
  const TokenCache cache =
      TokenCache::open_or_build(folder.path(), tokenizer, training_corpus({{"a", "", "abz"}}), encode);
  EXPECT_THAT(tokens_of(cache, Part::kTrain, 0), ElementsAre(69900, 69901, 69925));
  std::vector<int32_t> middle(1);
  cache.copy_tokens(Part::kTrain, 0, 1, middle);
  EXPECT_THAT(middle, ElementsAre(69901));
  EXPECT_THAT(error_of([&] { cache.copy_tokens(Part::kTrain, 0, 3, middle); }),
              HasSubstr("tokens 3 to 4 were asked of a document of 3"));
  EXPECT_THAT(error_of([&] { cache.document(Part::kValidation, 0); }), HasSubstr("no document 0 of 0"));
}

TEST(TokenCache, ADocumentOfManyBatchesComesBackWhole) {
  const TemporaryFolder folder;
  RandomStream random(1, "text");
  std::vector<Document> documents;
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (uint64_t n = random.below(60000) + 1; n > 0; --n) text += static_cast<char>(random.below(256));
    documents.push_back({"a", "", text});
  }
  const Corpus corpus = training_corpus(documents);
  int64_t done = 0;
  const TokenCache cache = TokenCache::open_or_build(folder.path(), byte_tokenizer(), corpus, encode_bytes,
                                                     [&](int64_t now, int64_t all) {
                                                       EXPECT_GT(now, done);
                                                       EXPECT_EQ(all, corpus.bytes());
                                                       done = now;
                                                     });
  EXPECT_EQ(done, corpus.bytes());
  for (int64_t i = 0; i < 300; ++i) {
    std::string text;
    for (int32_t id : tokens_of(cache, Part::kTrain, i))
      if (id != kEnd) text += static_cast<char>(id);
    ASSERT_EQ(text, corpus.train()[i].text);
  }
}

TEST(TokenCache, RefusesATokenizerThatLies) {
  const TemporaryFolder folder;
  const auto build = [&](const EncodeFunction& encode) {
    return error_of(
        [&] { TokenCache::open_or_build(folder.path(), byte_tokenizer(), small_corpus(), encode); });
  };
  EXPECT_THAT(build([](std::string_view, std::vector<int32_t>& ids) { ids.push_back(257); }),
              HasSubstr("token 257, outside its vocabulary of 257"));
  EXPECT_THAT(build([](std::string_view, std::vector<int32_t>& ids) { ids.push_back(-1); }),
              HasSubstr("token -1"));
  EXPECT_THAT(build([](std::string_view, std::vector<int32_t>&) {}),
              HasSubstr("gave no tokens for a text of"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

/// A sound cache file in memory.
std::string cache_file(const TemporaryFolder& folder) {
  const TokenCache cache =
      TokenCache::open_or_build(folder.path(), byte_tokenizer(), small_corpus(), encode_bytes);
  return read_file(cache.path());
}

std::string error_of_file(const std::string& file) {
  return error_of([&] { read_cache(std::as_bytes(std::span(file)), "x.cache"); });
}

TEST(TokenCache, CutOffAnywhereIsAnError) {
  const TemporaryFolder folder;
  const std::string whole = cache_file(folder);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_THAT(error_of_file(cut), HasSubstr("x.cache")) << size;
    std::string sealed = cut;
    seal_cache(sealed);
    EXPECT_THAT(error_of_file(sealed), HasSubstr("x.cache")) << size;
  }
  EXPECT_THAT(error_of_file(whole + std::string(8, '\0')), HasSubstr("damaged or cut off"));
}

TEST(TokenCache, AnyChangedByteIsNoticed) {
  const TemporaryFolder folder;
  const std::string whole = cache_file(folder);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x40);
    EXPECT_THAT(error_of_file(changed), HasSubstr("x.cache")) << i;
  }
}

/// The error for a file whose header was changed and whose checksums fit.
std::string error_with_header(const std::string& whole, const std::function<void(CacheHeader&)>& change) {
  std::string file = whole;
  CacheHeader header;
  std::memcpy(&header, file.data(), sizeof header);
  change(header);
  std::memcpy(file.data(), &header, sizeof header);
  seal_cache(file);
  return error_of_file(file);
}

TEST(TokenCache, LyingHeadersAreErrors) {
  const TemporaryFolder folder;
  const std::string whole = cache_file(folder);
  const auto error = [&](const std::function<void(CacheHeader&)>& change) {
    return error_with_header(whole, change);
  };
  constexpr uint64_t kHuge = ~uint64_t{0};
  EXPECT_THAT(error([](CacheHeader& h) { h.magic[0] = 'X'; }), HasSubstr("is no token cache"));
  EXPECT_THAT(error([](CacheHeader& h) { h.version = 9; }),
              HasSubstr("version 9; this program reads version 1"));
  for (const uint64_t lie :
       {kHuge, kHuge / 2, kHuge / 8, uint64_t{1} << 61, uint64_t{1} << 32, uint64_t{0}}) {
    EXPECT_THAT(error([&](CacheHeader& h) { h.documents = lie; }), HasSubstr("damaged or cut off"));
    EXPECT_THAT(error([&](CacheHeader& h) { h.tokens = lie; }), HasSubstr("damaged or cut off"));
    EXPECT_THAT(error([&](CacheHeader& h) { h.name_bytes = lie; }), HasSubstr("damaged or cut off"));
  }
  EXPECT_THAT(error([](CacheHeader& h) { h.domains = kHuge; }), HasSubstr("damaged or cut off"));
  EXPECT_THAT(error([](CacheHeader& h) { h.domains = 3; }),
              HasSubstr("3 domain names were announced, 2 are there"));
  EXPECT_THAT(error([](CacheHeader& h) { h.domains = 1; }), HasSubstr("5 bytes after the last domain name"));
  EXPECT_THAT(error([](CacheHeader& h) { h.token_width = 3; }), HasSubstr("damaged or cut off"));
  EXPECT_THAT(error([](CacheHeader& h) { h.vocab_size = 0; }), HasSubstr("a vocabulary of 0 tokens"));
  EXPECT_THAT(error([](CacheHeader& h) { h.vocab_size = kHuge; }), HasSubstr("a vocabulary of"));
  EXPECT_THAT(error([](CacheHeader& h) { h.vocab_size = 70000; }),
              HasSubstr("tokens of 2 bytes for 70000 token ids"));
  EXPECT_THAT(error([](CacheHeader& h) { h.vocab_size = 257, h.end_of_text = 257; }),
              HasSubstr("the end of text is token 257, outside the vocabulary of 257"));
  EXPECT_THAT(error([](CacheHeader& h) { h.end_of_text = -2; }), HasSubstr("the end of text is token -2"));
  EXPECT_THAT(error([](CacheHeader& h) { h.end_of_text = 9; }),
              HasSubstr("ends with token 256 instead of 9"));
  EXPECT_THAT(error([](CacheHeader& h) { h.vocab_size = 200, h.end_of_text = -1; }),
              HasSubstr("a token id of 256, outside the vocabulary of 200"));
  EXPECT_THAT(error([](CacheHeader& h) { h.train_documents = 5; }),
              HasSubstr("5 training documents of 4 documents"));
}

TEST(TokenCache, LyingTablesAreErrors) {
  const TemporaryFolder folder;
  const std::string whole = cache_file(folder);
  const auto error = [&](size_t offset, auto value) {
    std::string file = whole;
    std::memcpy(file.data() + offset, &value, sizeof value);
    seal_cache(file);
    return error_of_file(file);
  };
  const size_t begin = sizeof(CacheHeader), bytes = begin + 5 * 8, domain = bytes + 4 * 8,
               names = domain + 4 * 4;
  EXPECT_THAT(error(begin, uint64_t{1}), HasSubstr("the documents cover tokens 1 to 14, the file holds 14"));
  EXPECT_THAT(error(begin + 4 * 8, uint64_t{15}), HasSubstr("the documents cover tokens 0 to 15"));
  EXPECT_THAT(error(begin + 2 * 8, uint64_t{0}), HasSubstr("document 1 has no tokens"));
  EXPECT_THAT(error(begin + 2 * 8, ~uint64_t{0}), HasSubstr("document 2 has no tokens"));
  EXPECT_THAT(error(bytes, ~uint64_t{0}), HasSubstr("does not fit"));
  EXPECT_THAT(error(domain + 4, uint32_t{2}), HasSubstr("document 1 has domain 2, there are 2"));
  EXPECT_THAT(error(names, uint32_t{0}), HasSubstr("a domain name of 0 bytes"));
  EXPECT_THAT(error(names, ~uint32_t{0}), HasSubstr("a domain name of 4294967295 bytes, 6 are left"));
  EXPECT_THAT(error(names + 4, 'b'), HasSubstr("two domains have the same name"));
}

TEST(TokenCache, ADamagedOneIsMadeAnew) {
  const TemporaryFolder folder;
  std::string whole = cache_file(folder);
  const std::filesystem::path path = std::filesystem::directory_iterator(folder.path())->path();
  folder.write(path.filename().string(), whole.substr(0, whole.size() / 2));
  EXPECT_THAT(error_of([&] { TokenCache::open(path); }), HasSubstr(path.string()));
  const TokenCache cache =
      TokenCache::open_or_build(folder.path(), byte_tokenizer(), small_corpus(), encode_bytes);
  EXPECT_EQ(cache.origin(), TokenCache::Origin::kRebuilt);
  EXPECT_THAT(cache.rebuilt_because(), HasSubstr("damaged or cut off"));
  EXPECT_EQ(read_file(path), whole);
  EXPECT_THAT(error_of([&] { TokenCache::open(path, 5); }), HasSubstr("made of another corpus or tokenizer"));
}

TEST(TokenCache, TooLittleRoomIsFoundBeforeWriting) {
  const TemporaryFolder folder;
  const Corpus corpus = training_corpus({{"a", "", std::string(100'000, 'x')}});
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 50'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error =
      error_of([&] { TokenCache::open_or_build(folder.path(), byte_tokenizer(), corpus, encode_bytes); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(error, HasSubstr("may write files of at most"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace gatewright

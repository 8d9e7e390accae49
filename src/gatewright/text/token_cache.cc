#include "gatewright/text/token_cache.h"

#include <algorithm>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

/// Encodes the documents batch by batch, the documents of a batch on all threads.
class Builder {
 public:
  Builder(const TokenizerFacts& tokenizer, const Corpus& corpus, const EncodeFunction& encode,
          const CacheProgress& progress)
      : tokenizer_(tokenizer), corpus_(corpus), encode_(encode), progress_(progress) {}

  CacheContent build(uint64_t key) {
    content_.key = key;
    content_.vocab_size = tokenizer_.vocab_size;
    content_.end_of_text = tokenizer_.end_of_text.value_or(-1);
    content_.train_documents = corpus_.train().size();
    content_.names = corpus_.domains();
    add(corpus_.train());
    add(corpus_.validation());
    return std::move(content_);
  }

 private:
  void add(std::span<const CorpusDocument> documents) {
    constexpr int64_t kBatchBytes = int64_t{4} << 20;
    for (size_t first = 0; first < documents.size();) {
      size_t count = 0;
      for (int64_t bytes = 0; first + count < documents.size() && bytes < kBatchBytes; ++count)
        bytes += static_cast<int64_t>(documents[first + count].text.size());
      add_batch(documents.subspan(first, count));
      first += count;
    }
  }

  void add_batch(std::span<const CorpusDocument> documents) {
    std::vector<std::vector<int32_t>> ids(documents.size());
    parallel_for(0, static_cast<int64_t>(documents.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        encode_(documents[i].text, ids[i]);
        if (tokenizer_.end_of_text) ids[i].push_back(*tokenizer_.end_of_text);
      }
    });
    for (size_t i = 0; i < documents.size(); ++i) {
      require(ids[i].size() > tokenizer_.end_of_text.has_value(),
              "the tokenizer gave no tokens for a text of {} bytes", documents[i].text.size());
      content_.add(documents[i].domain, documents[i].text.size(), ids[i]);
      done_ += static_cast<int64_t>(documents[i].text.size());
    }
    if (progress_) progress_(done_, corpus_.bytes());
  }

  const TokenizerFacts& tokenizer_;
  const Corpus& corpus_;
  const EncodeFunction& encode_;
  const CacheProgress& progress_;
  CacheContent content_;
  int64_t done_ = 0;
};

}  // namespace

TokenCache TokenCache::open(const std::filesystem::path& file, std::optional<uint64_t> key) {
  MappedFile mapped(file);
  CacheLayout layout = read_cache(mapped.bytes(), file.string());
  require(!key || layout.header.key == *key,
          "{} was made of another corpus or tokenizer (key {:016x}, wanted {:016x})", file.string(),
          layout.header.key, key.value_or(0));
  return TokenCache(std::move(mapped), std::move(layout));
}

uint64_t TokenCache::key_of(const TokenizerFacts& tokenizer, const Corpus& corpus) {
  const uint64_t end = static_cast<uint64_t>(int64_t{tokenizer.end_of_text.value_or(-1)});
  return mix_hash(mix_hash(corpus.fingerprint(), tokenizer.fingerprint),
                  mix_hash(static_cast<uint64_t>(tokenizer.vocab_size), end));
}

TokenCache TokenCache::open_or_build(const std::filesystem::path& folder, const TokenizerFacts& tokenizer,
                                     const Corpus& corpus, const EncodeFunction& encode,
                                     const CacheProgress& progress) {
  const uint64_t key = key_of(tokenizer, corpus);
  const std::filesystem::path path = folder / fmt::format("tokens-{:016x}.cache", key);
  std::string rebuilt_because;
  if (std::filesystem::exists(path)) {
    try {
      return open(path, key);
    } catch (const Error& error) {
      rebuilt_because = error.what();
    }
  }
  make_folder(folder);
  const uint64_t at_least = static_cast<uint64_t>(corpus.bytes()) / 4;
  check_room(folder, at_least, at_least);
  CacheContent content = Builder(tokenizer, corpus, encode, progress).build(key);
  const std::string head = content.finish();
  check_room(folder, head.size() + content.tokens.size(), head.size() + content.tokens.size());
  AtomicFile file(path);
  file.write(head);
  file.write(std::span<const std::byte>(content.tokens));
  file.commit();
  TokenCache cache = open(path, key);
  cache.origin_ = rebuilt_because.empty() ? Origin::kBuilt : Origin::kRebuilt;
  cache.rebuilt_because_ = std::move(rebuilt_because);
  return cache;
}

int64_t TokenCache::documents(Part part) const {
  const CacheHeader& header = layout_.header;
  return static_cast<int64_t>(part == Part::kTrain ? header.train_documents
                                                   : header.documents - header.train_documents);
}

uint64_t TokenCache::global_index(Part part, int64_t index) const {
  require(index >= 0 && index < documents(part), "the token cache {} has no document {} of {}",
          path().string(), index, documents(part));
  return static_cast<uint64_t>(index) + (part == Part::kTrain ? 0 : layout_.header.train_documents);
}

TokenCache::DocumentFacts TokenCache::document(Part part, int64_t index) const {
  const uint64_t i = global_index(part, index);
  return {.domain = static_cast<int32_t>(layout_.domain[i]),
          .tokens = static_cast<int64_t>(layout_.begin[i + 1] - layout_.begin[i]),
          .bytes = static_cast<int64_t>(layout_.bytes[i])};
}

void TokenCache::copy_tokens(Part part, int64_t index, int64_t begin, std::span<int32_t> out) const {
  const uint64_t i = global_index(part, index);
  const int64_t length = static_cast<int64_t>(layout_.begin[i + 1] - layout_.begin[i]);
  require(begin >= 0 && std::cmp_less_equal(out.size(), length - begin),
          "tokens {} to {} were asked of a document of {}", begin, begin + static_cast<int64_t>(out.size()),
          length);
  const uint64_t first = layout_.begin[i] + static_cast<uint64_t>(begin);
  if (layout_.header.token_width == 2)
    std::copy_n(reinterpret_cast<const uint16_t*>(layout_.tokens.data()) + first, out.size(), out.begin());
  else
    std::copy_n(reinterpret_cast<const uint32_t*>(layout_.tokens.data()) + first, out.size(), out.begin());
}

int64_t TokenCache::tokens(Part part) const {
  const uint64_t train = layout_.begin[layout_.header.train_documents];
  return static_cast<int64_t>(part == Part::kTrain ? train : layout_.header.tokens - train);
}

int64_t TokenCache::bytes(Part part) const {
  int64_t sum = 0;
  for (int64_t i = 0; i < documents(part); ++i) sum += document(part, i).bytes;
  return sum;
}

std::optional<int32_t> TokenCache::end_of_text() const {
  if (layout_.header.end_of_text < 0) return std::nullopt;
  return static_cast<int32_t>(layout_.header.end_of_text);
}

}  // namespace gatewright

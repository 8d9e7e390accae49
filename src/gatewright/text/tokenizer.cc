#include "gatewright/text/tokenizer.h"

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/gpt2_scanner.h"
#include "gatewright/text/tokenizer_json.h"
#include "gatewright/text/word_cache.h"

namespace gatewright {
namespace {

void check_added(const BpeVocabulary& vocabulary, std::string_view what) {
  int32_t last = -1;
  for (const AddedToken& token : vocabulary.added) {
    require(token.id > last && static_cast<size_t>(token.id) < vocabulary.tokens.size() &&
                vocabulary.tokens[static_cast<size_t>(token.id)] == token.content,
            "{}: the added token {} does not agree with the vocabulary at id {}", what, Quoted{token.content},
            token.id);
    last = token.id;
  }
}

BpeVocabulary checked(BpeVocabulary vocabulary, std::string_view what) {
  require(vocabulary.tokens.size() <= INT32_MAX, "{}: {} tokens do not fit 32-bit ids", what,
          vocabulary.tokens.size());
  for (const std::string& token : vocabulary.tokens)
    require(!token.empty(), "{}: token {} is empty", what, &token - vocabulary.tokens.data());
  check_added(vocabulary, what);
  return vocabulary;
}

}  // namespace

struct Tokenizer::State {
  State(BpeVocabulary given, std::string_view what)
      : vocabulary(checked(std::move(given), what)), merger(vocabulary, what) {
    for (const AddedToken& token : vocabulary.added)
      if (token.content == kEndOfText) end_of_text = token.id;
    fingerprint = hash_bytes(write_tokenizer_json(vocabulary));
  }

  const BpeVocabulary vocabulary;
  const BpeMerger merger;
  const uint64_t cache_owner = WordCache::new_owner();
  std::optional<int32_t> end_of_text;
  uint64_t fingerprint = 0;
};

Tokenizer::Tokenizer(BpeVocabulary vocabulary, std::string_view what)
    : state_(std::make_shared<const State>(std::move(vocabulary), what)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  constexpr uint64_t kLargest = uint64_t{1} << 26;  // published files have up to 35 MB
  return parse(read_file(path, kLargest), path.string());
}

Tokenizer Tokenizer::parse(std::string_view json, std::string_view what) {
  return Tokenizer(read_tokenizer_json(json, what), what);
}

std::string Tokenizer::to_json() const { return write_tokenizer_json(state_->vocabulary); }

void Tokenizer::save(const std::filesystem::path& path) const { write_file(path, to_json()); }

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  encode(text, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& out) const {
  WordCache& cache = WordCache::of_this_thread();
  for (Gpt2Scanner words(text); !words.done();) {
    const std::string_view word = words.next();
    const WordCache::Key key = WordCache::key(word, text);
    if (!key.fits) {
      state_->merger.encode_word(word, out);
    } else if (!cache.find(key, state_->cache_owner, out)) {
      const size_t begin = out.size();
      state_->merger.encode_word(word, out);
      cache.keep(key, state_->cache_owner, std::span(out).subspan(begin));
    }
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token_bytes(id);
  return text;
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  require(id >= 0 && id < vocab_size(), "token id {} is not in the vocabulary, which has ids 0 to {}", id,
          vocab_size() - 1);
  return state_->vocabulary.tokens[static_cast<size_t>(id)];
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(state_->vocabulary.tokens.size()); }
const BpeVocabulary& Tokenizer::vocabulary() const { return state_->vocabulary; }
std::optional<int32_t> Tokenizer::end_of_text() const { return state_->end_of_text; }
uint64_t Tokenizer::fingerprint() const { return state_->fingerprint; }

}  // namespace gatewright

#include "gatewright/text/tokenized_corpus.h"

namespace gatewright {

TokenizerFacts facts_of(const Tokenizer& tokenizer) {
  return {.fingerprint = tokenizer.fingerprint(),
          .vocab_size = tokenizer.vocab_size(),
          .end_of_text = tokenizer.end_of_text()};
}

std::vector<int32_t> token_byte_lengths(const Tokenizer& tokenizer) {
  std::vector<int32_t> lengths;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    lengths.push_back(tokenizer.is_special(id) ? 0 : static_cast<int32_t>(tokenizer.token_bytes(id).size()));
  return lengths;
}

TokenCache tokenize_corpus(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                           const Corpus& corpus, const CacheProgress& progress) {
  const EncodeFunction encode = [&](std::string_view text, std::vector<int32_t>& ids) {
    tokenizer.encode(text, ids);
  };
  return TokenCache::open_or_build(folder, facts_of(tokenizer), corpus, encode, progress);
}

}  // namespace gatewright

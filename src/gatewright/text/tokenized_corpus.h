// A corpus and a tokenizer brought together: the token cache, and how many bytes each token stands for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "gatewright/text/corpus.h"
#include "gatewright/text/token_cache.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

TokenizerFacts facts_of(const Tokenizer& tokenizer);
/// Bytes of text for each id, [vocab_size]; special tokens stand for none.
std::vector<int32_t> token_byte_lengths(const Tokenizer& tokenizer);
/// TokenCache::open_or_build with this tokenizer.
TokenCache tokenize_corpus(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                           const Corpus& corpus, const CacheProgress& progress = {});

}  // namespace gatewright

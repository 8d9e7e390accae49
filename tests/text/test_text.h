// What the tests of text share: a tokenizer whose ids are bytes.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "gatewright/text/corpus.h"
#include "gatewright/text/token_cache.h"
#include "tests/testing.h"

namespace gatewright {

/// Ids 0 to 255 are bytes, 256 is the end of text.
inline constexpr int32_t kEnd = 256;
inline TokenizerFacts byte_tokenizer() { return {.fingerprint = 7, .vocab_size = 257, .end_of_text = kEnd}; }
inline void encode_bytes(std::string_view text, std::vector<int32_t>& ids) {
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
}
inline std::vector<int32_t> byte_lengths() {
  std::vector<int32_t> lengths(257, 1);
  lengths[kEnd] = 0;
  return lengths;
}

/// Everything in the training part.
inline Corpus training_corpus(std::vector<Document> documents) {
  return Corpus::from_documents(std::move(documents), {.validation_share = 0});
}

}  // namespace gatewright

// Hugging Face's tokenizer.json. Read are byte-level BPE tokenizers with GPT-2's pre-tokeniser; what a file
// has beyond that is an error that names it.
#pragma once

#include <string>
#include <string_view>

#include "gatewright/text/bpe.h"

namespace gatewright {

/// Errors name `what`. Merges are resolved to ids; BpeMerger checks that they fit.
BpeVocabulary read_tokenizer_json(std::string_view json, std::string_view what);

/// The vocabulary in id order, added tokens among it; merges as "left right". The same vocabulary gives the
/// same bytes.
std::string write_tokenizer_json(const BpeVocabulary& vocabulary);

}  // namespace gatewright

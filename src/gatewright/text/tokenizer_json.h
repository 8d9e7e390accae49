// Hugging Face's tokenizer.json: BPE, Unigram and WordPiece models and the parts around them. What a file has
// that is not known is an error that names it.
#pragma once

#include <string>
#include <string_view>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

/// Errors name `what`. Merges are resolved to ids; the model checks that they fit.
TokenizerDefinition read_tokenizer_json(std::string_view json, std::string_view what);

/// The vocabulary in id order, added tokens among it; merges as "left right". The same definition gives the
/// same bytes. Scored BPE is written with the merges that its scores stand for.
std::string write_tokenizer_json(const TokenizerDefinition& definition);
/// The same, but scores stand as they are: for a hash of what the tokenizer does.
std::string fingerprinted_json(const TokenizerDefinition& definition);

/// tokenizer_config.json: bos_token, eos_token, unk_token, pad_token, chat_template.
std::string write_tokenizer_config(const TokenizerDefinition& definition);
/// Adds what such a file says to the definition; errors name `what`.
void read_tokenizer_config(std::string_view json, std::string_view what, TokenizerDefinition& definition);

}  // namespace gatewright

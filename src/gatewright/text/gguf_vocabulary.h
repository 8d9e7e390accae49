// The tokenizer inside a GGUF file: its keys as they stand there, and what they mean.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

struct GgufVocabulary {
  std::string model;                // gpt2, llama, bert
  std::string pre;                  // name of the pre-tokeniser of gpt2, "" when the file names none
  std::vector<std::string> tokens;  // as written
  std::vector<double> scores;       // of llama
  std::vector<int64_t>
      types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; may be empty
  std::vector<std::string> merges;  // "left right"
  std::optional<int64_t> begin, end, unknown, padding, separator, classifier, mask;
  std::optional<bool> add_begin, add_end, add_space_prefix;
  /// Ids of added tokens that white space before or after them belongs to. GGUF has no place for it: files of
  /// ours have keys of their own, and of others the architecture says it (Phi-3).
  std::vector<int64_t> strips_left, strips_right;
  std::string chat_template;
};

/// Whether the file has a vocabulary (tokenizer.ggml.model, other than no_vocab).
bool has_vocabulary(const GgufMetadata& metadata);
/// Errors name the file and the key.
GgufVocabulary read_gguf_vocabulary(const GgufMetadata& metadata);
/// Sets the keys; those that the vocabulary does not give are taken away.
void write_gguf_vocabulary(const GgufVocabulary& vocabulary, GgufMetadata& metadata);

/// Errors name `what`: a model or pre-tokeniser that is not known, ids out of range, types or scores that are
/// not one a token, tokens that repeat, merges that are no pair of tokens.
TokenizerDefinition definition_of(const GgufVocabulary& vocabulary, std::string_view what);
/// For writers of GGUF. An error when GGUF has no name for what the tokenizer does.
GgufVocabulary gguf_vocabulary(const TokenizerDefinition& definition);

}  // namespace gatewright

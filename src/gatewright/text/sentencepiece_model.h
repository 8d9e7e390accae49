// SentencePiece's model file (Kudo and Richardson 2018), a protocol buffer: pieces, and how they were
// trained.
#pragma once

#include <string_view>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

/// A model of type Unigram or BPE. Errors name `what`.
TokenizerDefinition read_sentencepiece_model(std::string_view bytes, std::string_view what);

}  // namespace gatewright

// The tokenizer of a published model that is open.
#pragma once

#include "gatewright/models/families/model_file.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

/// That of the GGUF file, or of the folder's files, as Tokenizer::load reads it. Fails when there is none.
Tokenizer tokenizer_of(const ModelFile& file);
Tokenizer tokenizer_of(const GgufFile& file);

}  // namespace gatewright

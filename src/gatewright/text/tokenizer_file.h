// Any file with a tokenizer in it.
#pragma once

#include <filesystem>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

/// A tokenizer.json, a SentencePiece model or a GGUF file, told by content; or a folder with tokenizer.json
/// or tokenizer.model, beside which tokenizer_config.json and chat_template.jinja are read. Errors name the
/// file.
TokenizerDefinition read_tokenizer_file(const std::filesystem::path& path);

}  // namespace gatewright

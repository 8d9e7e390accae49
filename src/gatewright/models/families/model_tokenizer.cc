#include "gatewright/models/families/model_tokenizer.h"

#include "gatewright/text/gguf_vocabulary.h"

namespace gatewright {

Tokenizer tokenizer_of(const GgufFile& file) {
  const std::string path = file.paths().front().string();
  return Tokenizer(definition_of(read_gguf_vocabulary(file.metadata()), path), path);
}

Tokenizer tokenizer_of(const ModelFile& file) {
  return file.gguf() ? tokenizer_of(*file.gguf()) : Tokenizer::load(file.path());
}

}  // namespace gatewright

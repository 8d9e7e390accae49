// A published model written again with other values in some of its tensors. No LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "gatewright/models/families/model_file.h"

namespace gatewright {

/// Values in place of the file's, by our names: float32, as many as the tensor has.
using NewValues = std::map<std::string, std::span<const float>>;

/// The file's model with these values, whose tensors are F32, and with another number of experts a token
/// where `architecture` says so; it agrees with the file's in all else. File and values are borrowed.
std::unique_ptr<ModelSource> with_values(const ModelFile& file, NewValues values,
                                         const Architecture& architecture);

/// Writes the file in its own format and layout: a GGUF file, or into a folder with the tokenizer and the
/// other small files of its own (model.safetensors in shards when it is large; config.json last). Tensors
/// without new values keep their bytes, the others are F32. Fails when a tensor with new values is no tensor
/// of the file by itself, as a router always is. What is written never holds more than one tensor in memory.
void rewrite(const ModelFile& file, const NewValues& values, const Architecture& architecture,
             const std::filesystem::path& out);

}  // namespace gatewright

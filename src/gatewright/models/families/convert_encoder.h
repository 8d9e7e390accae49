// A sentence encoder (BERT) from Hugging Face's format to GGUF and back. No LibTorch.
#pragma once

#include <filesystem>
#include <string>

#include "gatewright/formats/gguf.h"
#include "gatewright/models/families/convert.h"

namespace gatewright {

/// The name in GGUF of an encoder's tensor: "encoder.layer.0.output.dense.bias" is "blk.0.ffn_down.bias".
std::string encoder_gguf_name(std::string name);

/// Whether a folder's config.json or a GGUF file's keys say that it is a BERT.
bool is_encoder(const std::filesystem::path& path);
bool is_encoder(const GgufFile& file);

/// From a folder to a file whose name ends in .gguf, or from a GGUF file to a folder; what `out` is decides.
/// Vectors, positions and token types are F32 in GGUF; other tensors keep their type unless the options say
/// otherwise. The pooler, which sentence embeddings do not use, is left out. Fails when a tensor is missing
/// or has another shape than the configuration says.
ConvertReport convert_encoder(const std::filesystem::path& in, const std::filesystem::path& out,
                              const ConvertOptions& options = {});
/// The same of a GGUF file that is open, into a folder.
ConvertReport convert_encoder(const GgufFile& in, const std::filesystem::path& folder,
                              const ConvertOptions& options = {});

}  // namespace gatewright

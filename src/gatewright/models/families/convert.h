// A published model from one format to the other, and llama2.c's files to GGUF. No LibTorch.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/models/families/model_source.h"

namespace gatewright {

struct ConvertOptions {
  /// F32, F16 or BF16 for matrices in place of the file's type; none: as they are, and F32 for packed ones
  /// that the format can't hold.
  std::optional<DataType> type = {};
  bool dry_run = false;  // decides and reports, writes nothing
  /// Bytes written, of all.
  std::function<void(uint64_t done, uint64_t total)> progress = {};
};

struct ConvertedTensor {
  std::string name;
  std::vector<int64_t> shape;
  DataType type = DataType::kF32;
  uint64_t bytes = 0;
};

struct ConvertedFile {
  std::string name;  // without its folder
  uint64_t bytes = 0;
  std::vector<ConvertedTensor> tensors = {};  // in the order of the file
};

/// What was written, or would be.
struct ConvertReport {
  std::vector<ConvertedFile> files = {};
  uint64_t bytes = 0;   // of all files
  int64_t tensors = 0;  // in all files
  /// What other programs can't load of it, and what changed its type: a sentence each.
  std::vector<std::string> notes = {};
};

/// Writes a GGUF file beside and renamed. Tensors keep their type but for vectors and routers, which are F32
/// there.
ConvertReport convert_to_gguf(const ModelSource& in, const std::filesystem::path& out,
                              const ConvertOptions& options = {});

/// Writes config.json, model.safetensors (in shards when it is large) and what of the tokenizer the file
/// holds into a folder, config.json last.
ConvertReport convert_to_folder(const ModelSource& in, const std::filesystem::path& folder,
                                const ConvertOptions& options = {});

/// A checkpoint of llama2.c (version 0: seven int32, then float32 weights), which has no name for its format:
/// told by a header whose sizes give the file's length.
bool is_llama2c(const std::filesystem::path& path);
/// Its weights as a GGUF file of the architecture llama; with `tokenizer`, a tokenizer.bin of the same
/// project, its vocabulary too.
/// The type stays F32, whatever the options say.
ConvertReport convert_llama2c(const std::filesystem::path& in, const std::filesystem::path& tokenizer,
                              const std::filesystem::path& out, const ConvertOptions& options = {});

}  // namespace gatewright

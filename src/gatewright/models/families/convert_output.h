// The last step of every conversion: what was planned is written, and the report says into which files. No
// LibTorch.
#pragma once

#include <filesystem>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/formats/tensor_plan.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/convert_files.h"

namespace gatewright {

/// Writes a GGUF file, beside and renamed, unless it is a dry run; fills in the report but for its notes.
void finish_gguf(const std::filesystem::path& out, const GgufMetadata& keys, std::vector<TensorPlan> plans,
                 const ConvertOptions& options, ConvertReport& report);

/// What a model's folder has besides the weights.
struct FolderTexts {
  SmallFiles beside;
  OrderedJson config;
};

/// The same for a folder. config.json is last, so that a folder that has it is complete.
void finish_folder(const std::filesystem::path& folder, std::vector<TensorPlan> plans,
                   const FolderTexts& texts, const ConvertOptions& options, ConvertReport& report);

}  // namespace gatewright

// Where a model lies that was named by a path or by a short name.
#pragma once

#include <filesystem>
#include <string>

namespace gatewright {

/// The folder that tools/get-models fills: gatewright/models in $XDG_CACHE_HOME or ~/.cache.
std::filesystem::path models_folder();

/// What exists at the path (of a folder that holds one GGUF file and no config.json, that file); else the one
/// file or folder in `models` whose name has the words in it, in any case
/// ("smollm2"). None and several are errors with the nearest names.
std::filesystem::path find_model(const std::string& name_or_path,
                                 const std::filesystem::path& models = models_folder());

}  // namespace gatewright

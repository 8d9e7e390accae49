// Models by a short name: those that lie in the user's cache folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace gatewright {

/// $XDG_CACHE_HOME/gatewright/models, or ~/.cache/gatewright/models.
std::filesystem::path model_cache_folder();

/// What a user names a model by: the path of a file or folder, which is returned as it is, or part of the
/// name of one in the cache folder, whatever the case ("smollm2"). A name that fits none, or several, is an
/// error with the nearest one.
std::filesystem::path find_model(const std::string& name_or_path,
                                 const std::filesystem::path& cache = model_cache_folder());

}  // namespace gatewright

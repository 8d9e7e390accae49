#include "gatewright/models/families/model_lookup.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Files and folders of the cache, sorted.
std::vector<fs::path> cached_models(const fs::path& cache) {
  std::vector<fs::path> models;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    const bool hidden = entry.path().filename().string().starts_with('.');
    if (!hidden && (entry.is_directory() || entry.path().extension() == ".gguf"))
      models.push_back(entry.path());
  }
  std::ranges::sort(models);
  return models;
}

std::vector<std::string> names_of(const std::vector<fs::path>& models) {
  std::vector<std::string> names;
  for (const fs::path& model : models) names.push_back(model.stem().string());
  return names;
}

}  // namespace

fs::path model_cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return fs::path(cache) / "gatewright/models";
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : ".") / ".cache/gatewright/models";
}

fs::path find_model(const std::string& name, const fs::path& cache) {
  if (fs::exists(name)) return name;
  const bool is_name = name.find('/') == std::string::npos && !name.ends_with(".gguf") && !name.empty();
  if (!is_name) fail("there is no {}", Quoted{name});
  const std::vector<fs::path> models = cached_models(cache);
  std::vector<fs::path> found;
  for (const fs::path& model : models) {
    if (lower(model.filename().string()).find(lower(name)) != std::string::npos) found.push_back(model);
  }
  if (found.size() == 1) return found[0];
  if (found.size() > 1)
    fail("{} stands for several models in {}: {}", Quoted{name}, cache.string(),
         fmt::join(names_of(found), ", "));
  if (models.empty())
    fail("there is no {} here, and no model in {} (tools/get-models fetches two small ones)", Quoted{name},
         cache.string());
  fail("there is no {} here, and no such model in {}{}", Quoted{name}, cache.string(),
       did_you_mean(name, names_of(models)));
}

}  // namespace gatewright

#include "gatewright/formats/model_lookup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/words.h"

namespace gatewright {

namespace fs = std::filesystem;

namespace {

/// Names of what lies in the folder, sorted; hidden ones are downloads that go on.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code none;
  for (fs::directory_iterator it(folder, none), end; it != end; it.increment(none)) {
    if (std::string name = it->path().filename().string(); !name.starts_with('.'))
      names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

/// Edits to the nearest word of a name such as smollm2-135m-instruct.q4_1.gguf.
int distance(const std::string& wanted, const std::string& name) {
  int least = edit_distance(wanted, name);
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find_first_of("-._ ", begin), name.size());
    least = std::min(least, edit_distance(wanted, name.substr(begin, end - begin)));
    begin = end + 1;
  }
  return least;
}

/// ", did you mean 'x'?" or what there is.
std::string suggestion(const std::string& wanted, const std::vector<std::string>& names,
                       const fs::path& models) {
  if (names.empty())
    return fmt::format("; {} has no models, tools/get-models fetches two small ones", models.string());
  const auto nearest =
      std::ranges::min_element(names, {}, [&](const auto& name) { return distance(wanted, name); });
  if (distance(wanted, *nearest) <= std::max<int>(2, static_cast<int>(wanted.size()) / 3))
    return fmt::format(", did you mean '{}'?", *nearest);
  return fmt::format(" (in {} there is: {})", models.string(), fmt::join(names, ", "));
}

/// The GGUF file that is all of a model in the folder; the path itself otherwise.
fs::path file_in(const fs::path& path) {
  std::error_code none;
  if (!fs::is_directory(path, none) || fs::exists(path / "config.json", none)) return path;
  std::vector<std::string> names = names_in(path);
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".gguf"); });
  return names.size() == 1 ? path / names[0] : path;
}

}  // namespace

fs::path models_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path root = cache && *cache ? fs::path(cache) : fs::path(home ? home : ".") / ".cache";
  return root / "gatewright" / "models";
}

fs::path find_model(const std::string& name_or_path, const fs::path& models) {
  std::error_code none;
  if (fs::exists(name_or_path, none)) return file_in(name_or_path);
  const std::string shown = name_or_path.substr(0, 200);
  if (name_or_path.empty() || name_or_path.find('/') != std::string::npos)
    fail("there is no model '{}': neither a folder nor a file has this path", shown);
  const std::vector<std::string> names = names_in(models);
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (lower_case(name) == lower_case(name_or_path)) return file_in(models / name);
    if (lower_case(name).find(lower_case(name_or_path)) != std::string::npos) found.push_back(name);
  }
  if (found.size() > 1)
    fail("'{}' is more than one model of {}: {}", shown, models.string(), fmt::join(found, ", "));
  if (found.empty()) fail("there is no model '{}'{}", shown, suggestion(name_or_path, names, models));
  return file_in(models / found[0]);
}

}  // namespace gatewright

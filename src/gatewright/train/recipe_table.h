// A recipe's TOML as plain tables in which every value knows where it came from, so that files, presets and
// --set can be laid over one another and every problem still names its line.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/base/parameters.h"

namespace gatewright {

struct RecipeEntry {
  Value value;
  std::string location;  // "recipe.toml:12", "--set train.steps=20", "preset tiny"
};

struct RecipeTable {
  std::map<std::string, RecipeEntry> values = {};
  std::map<std::string, RecipeTable> tables = {};
  std::map<std::string, std::vector<RecipeTable>> lists = {};
  std::string location = {};

  const RecipeTable* table(const std::string& name) const;
  const RecipeEntry* value(const std::string& name) const;
};

/// Problems of one recipe, each once and with its place.
class RecipeProblems {
 public:
  /// What to say about a key that a table does not have ("", or ", did you mean 'train.steps'?").
  using KeyHint = std::function<std::string(const std::string& path, const std::string& key)>;
  explicit RecipeProblems(KeyHint hint = {}) : hint_(std::move(hint)) {}
  std::string hint(const std::string& path, const std::string& key) const {
    return hint_ ? hint_(path, key) : std::string();
  }

  template <typename... Args>
  void add(const std::string& location, fmt::format_string<Args...> format, Args&&... args) {
    add_text(location, fmt::format(format, std::forward<Args>(args)...));
  }
  bool empty() const { return problems_.empty(); }
  size_t count() const { return problems_.size(); }
  /// Throws a UsageError with all of them unless there are none.
  void throw_if_any(std::string_view what) const;

 private:
  void add_text(const std::string& location, const std::string& problem);
  KeyHint hint_;
  std::vector<std::string> problems_;
  std::set<std::string> told_;
};

/// Reads a file ("-": standard input). Text that is no TOML is an error with its line; values of types that
/// recipes don't have (dates, mixed lists) are problems.
RecipeTable read_recipe_file(const std::filesystem::path& path, RecipeProblems& problems);
RecipeTable parse_recipe(std::string_view text, const std::string& name, RecipeProblems& problems);
/// "train.steps=200" as a table; a value that is no TOML value is taken as text.
RecipeTable parse_setting(const std::string& setting, RecipeProblems& problems);

/// Values of `table` checked against `parameters`: unknown keys, wrong types and ranges become problems; keys
/// that are missing get their defaults. `path` is the table's name in messages ("train").
std::map<std::string, Value> check_table(const RecipeTable& table, const std::string& path,
                                         const std::vector<Parameter>& parameters, RecipeProblems& problems);
/// Every sub-table and list of `table` must be one of `allowed`.
void check_tables(const RecipeTable& table, const std::string& path, std::span<const std::string> allowed,
                  RecipeProblems& problems);

/// The values alone, keys sorted: two recipes that say the same give the same.
OrderedJson to_json(const RecipeTable& table);
OrderedJson to_json(const Value& value);

}  // namespace gatewright

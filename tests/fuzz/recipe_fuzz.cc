// Any text is refused with one clear Error or gives tables that can be checked and written as JSON. The first
// byte says whether the input is a recipe or a --set.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/train/recipe_table.h"

namespace gatewright {
namespace {

const std::vector<Parameter>& keys() {
  static const std::vector<Parameter> all = {
      {.name = "a", .help = "", .default_value = int64_t{1}, .min = 0, .max = 10},
      {.name = "b", .help = "", .default_value = 0.5, .min = 0, .max = 1, .min_open = true},
      {.name = "c", .help = "", .default_value = std::string("x"), .choices = {"x", "y"}},
      {.name = "d", .help = "", .default_value = std::vector<std::string>()},
      {.name = "e", .help = "", .default_value = std::vector<double>(), .min = -1, .max = 1},
      {.name = "f", .help = "", .default_value = false}};
  return all;
}

/// Every value has the type of its parameter and, for numbers, lies in its range.
void check_values(const std::map<std::string, Value>& values) {
  for (const Parameter& p : keys()) {
    Value value = values.at(p.name);
    if (value.index() != p.default_value.index() || !check_value(p, value).empty()) std::abort();
  }
}

void check(const RecipeTable& table, const std::string& path, RecipeProblems& problems) {
  static const std::vector<std::string> allowed = {"a", "table"};
  check_values(check_table(table, path, keys(), problems));
  check_tables(table, path, allowed, problems);
  for (const auto& [name, inner] : table.tables) check(inner, name, problems);
  for (const auto& [name, list] : table.lists)
    for (const RecipeTable& inner : list) check(inner, name, problems);
}

void run(uint8_t kind, const std::string& text) {
  try {
    RecipeProblems problems;
    const RecipeTable table =
        kind % 4 == 0 ? parse_setting(text, problems) : parse_recipe(text, "the input", problems);
    if (Json::parse(to_json(table).dump()).is_null()) std::abort();
    check(table, "", problems);
    problems.throw_if_any("the input");
  } catch (const Error& error) {
    const std::string_view message = error.what();
    if (message.size() > 8000) std::abort();
    if (std::ranges::any_of(message, [](unsigned char c) { return (c < 32 && c != '\n') || c == 127; }))
      std::abort();
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  gatewright::run(data[0], std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}

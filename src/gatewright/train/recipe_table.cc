#include "gatewright/train/recipe_table.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

// Some texts ("[" at the end of a line) break what the TOML library asserts, or assumes in release builds.
// Where it asserts in functions that must not throw, nothing of a text arrives.
struct BrokenToml {};
#undef NDEBUG
#define TOML_ASSERT(expression) ((expression) ? void() : throw BrokenToml())
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wterminate"
#endif
#include <toml++/toml.h>

#include "gatewright/base/file.h"
#include "gatewright/base/nearest.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

constexpr uint64_t kLargestRecipe = 256 << 10;
constexpr size_t kMostShown = 10;

/// Fit for a message: cut when it is long, and without control characters.
std::string shown(std::string_view text, size_t longest) {
  std::string result(text.substr(0, longest));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return text.size() > longest ? result + "..." : result;
}

struct TableReader {
  const std::string& name;
  std::string fixed_location;  // for --set, where lines mean nothing
  RecipeProblems& problems;

  std::string location(const toml::node& node) const {
    return fixed_location.empty() ? fmt::format("{}:{}", name, node.source().begin.line) : fixed_location;
  }

  template <typename T>
  std::vector<T> list(const toml::array& array) const {
    std::vector<T> result;
    for (const toml::node& x : array) result.push_back(*x.value<T>());
    return result;
  }

  bool read_list(const toml::array& array, Value& value) const {
    const auto all = [&](auto is) { return std::all_of(array.begin(), array.end(), is); };
    if (all([](const toml::node& x) { return x.is_integer(); }))
      value = list<int64_t>(array);
    else if (all([](const toml::node& x) { return x.is_number(); }))
      value = list<double>(array);
    else if (all([](const toml::node& x) { return x.is_string(); }))
      value = list<std::string>(array);
    else
      return false;
    return true;
  }

  bool read_value(const toml::node& node, Value& value) const {
    if (const auto* x = node.as_boolean()) value = x->get();
    if (const auto* x = node.as_integer()) value = x->get();
    if (const auto* x = node.as_floating_point()) value = x->get();
    if (const auto* x = node.as_string()) value = x->get();
    if (const auto* x = node.as_array()) return read_list(*x, value);
    return node.is_boolean() || node.is_number() || node.is_string();
  }

  RecipeTable table(const toml::table& toml, const std::string& path) const {
    RecipeTable result;
    result.location = location(toml);
    for (const auto& [key_view, node] : toml) {
      const std::string key(key_view.str());
      const std::string full = path.empty() ? key : path + "." + key;
      if (const auto* inner = node.as_table()) {
        result.tables[key] = table(*inner, full);
      } else if (const auto* array = node.as_array(); array && array->is_array_of_tables()) {
        for (const toml::node& x : *array) result.lists[key].push_back(table(*x.as_table(), full));
      } else if (Value value; read_value(node, value)) {
        result.values[key] = {value, location(node)};
      } else {
        problems.add(location(node), "{} has a value of a type that recipes don't use", full);
      }
    }
    return result;
  }
};

constexpr int kDeepestBrackets = 32, kLongestKey = 16;  // keys: in names joined by dots

/// The rest of the text behind a string or comment that begins it; the text itself when none does.
std::string_view skip_string_or_comment(std::string_view text) {
  const char quote = text.front();
  if (quote == '#') return text.substr(std::min(text.find('\n'), text.size()));
  if (quote != '"' && quote != '\'') return text;
  const std::string_view three = quote == '"' ? "\"\"\"" : "'''";
  const bool lines = text.starts_with(three);
  text.remove_prefix(lines ? 3 : 1);
  while (!text.empty() && (lines ? !text.starts_with(three) : text.front() != quote && text.front() != '\n'))
    text.remove_prefix(std::min<size_t>(text.size(), quote == '"' && text.front() == '\\' ? 2 : 1));
  return text.substr(std::min<size_t>(text.size(), lines ? 3 : 1));
}

/// The TOML library and what reads its tables recurse, so depth is bounded before they start.
void check_depth(std::string_view text, const std::string& name) {
  int depth = 0, names = 1;
  while (!text.empty()) {
    const std::string_view rest = skip_string_or_comment(text);
    if (rest.size() < text.size()) {
      text = rest;
      continue;
    }
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (c == '.') ++names;
    if (std::string_view("=,[{\n").find(c) != std::string_view::npos) names = 1;
    if (depth > kDeepestBrackets || names > kLongestKey)
      fail_usage("{} is not a recipe: its tables are nested without end", shown(name, 200));
  }
}

toml::table parse_toml(std::string_view text, const std::string& name) {
  check_depth(text, name);
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& e) {
    fail_usage("{}:{}: this is not TOML: {}", name, e.source().begin.line, shown(e.description(), 200));
  } catch (const BrokenToml&) {
    fail_usage("{}: this is not TOML", shown(name, 200));
  }
}

std::string without(std::string text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at))
    text.erase(at, part.size());
  return text;
}

}  // namespace

const RecipeTable* RecipeTable::table(const std::string& name) const {
  const auto it = tables.find(name);
  return it == tables.end() ? nullptr : &it->second;
}

const RecipeEntry* RecipeTable::value(const std::string& name) const {
  const auto it = values.find(name);
  return it == values.end() ? nullptr : &it->second;
}

void RecipeProblems::add_text(const std::string& location, const std::string& problem) {
  const std::string line = shown(location.empty() ? problem : location + ": " + problem, 500);
  // Layers that differ are the other layers with changes: what is wrong with those is not told again.
  if (told_.contains(without(line, "layers.")) || !told_.insert(line).second) return;
  problems_.push_back(line);
}

void RecipeProblems::throw_if_any(std::string_view what) const {
  if (problems_.empty()) return;
  if (problems_.size() == 1) throw UsageError(problems_.front());
  const size_t shown = std::min(problems_.size(), kMostShown);
  std::string text = fmt::format(
      "{} has {} problems:\n  {}", what, problems_.size(),
      fmt::join(problems_.begin(), problems_.begin() + static_cast<std::ptrdiff_t>(shown), "\n  "));
  if (shown < problems_.size()) text += fmt::format("\n  and {} more", problems_.size() - shown);
  throw UsageError(text);
}

RecipeTable parse_recipe(std::string_view text, const std::string& name, RecipeProblems& problems) {
  return TableReader{.name = name, .fixed_location = "", .problems = problems}.table(parse_toml(text, name),
                                                                                     "");
}

RecipeTable read_recipe_file(const std::filesystem::path& path, RecipeProblems& problems) {
  if (path != "-" && !std::filesystem::exists(path))
    fail_usage("there is no recipe {} (`gatewright recipe` lists what can be started from)", path.string());
  if (std::filesystem::is_directory(path))
    fail_usage("{} is a folder, a recipe file was expected", path.string());
  const std::string name = path == "-" ? "standard input" : path.string();
  return parse_recipe(read_file(path, kLargestRecipe), name, problems);
}

RecipeTable parse_setting(const std::string& setting, RecipeProblems& problems) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    fail_usage("--set {}: KEY=VALUE was expected, for example --set train.steps=200", shown(setting, 200));
  if (!is_utf8(setting)) fail_usage("--set {}: this is no text in UTF-8", shown(setting, 200));
  const std::string key = setting.substr(0, equals), text = setting.substr(equals + 1),
                    location = "--set " + setting;
  Value value = text;
  check_depth(setting, location);
  try {
    const toml::table parsed = toml::parse("value = " + text);
    const TableReader reader{.name = location, .fixed_location = location, .problems = problems};
    if (parsed.size() == 1) reader.read_value(*parsed.get("value"), value);
  } catch (const toml::parse_error& e) {
    const bool numeric = !text.empty() && text.find_first_not_of("0123456789+-._eE") == std::string::npos;
    if (numeric) problems.add(location, "{}: the number can't be read: {}", key, shown(e.description(), 120));
  } catch (const BrokenToml&) {  // a text
  }
  RecipeTable root{.location = location};
  RecipeTable* table = &root;
  size_t begin = 0;
  for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', begin)) {
    table = &table->tables[key.substr(begin, dot - begin)];
    table->location = location;
    begin = dot + 1;
  }
  table->values[key.substr(begin)] = {value, location};
  return root;
}

std::map<std::string, Value> check_table(const RecipeTable& table, const std::string& path,
                                         const std::vector<Parameter>& parameters, RecipeProblems& problems) {
  std::map<std::string, Value> result;
  std::vector<std::string> names;
  for (const Parameter& p : parameters) {
    names.push_back(p.name);
    result[p.name] = p.default_value;
    if (p.required && !table.value(p.name))
      problems.add(table.location, "[{}] needs the key '{}': {}", path, p.name, p.help);
  }
  for (const auto& [key, entry] : table.values) {
    const auto p = std::ranges::find(parameters, key, &Parameter::name);
    const std::string full = path.empty() ? key : path + "." + key;
    if (p == parameters.end()) {
      const std::string hint = problems.hint(path, key);
      problems.add(entry.location, "{} is not a key of {}{}", full,
                   path.empty() ? "a recipe" : "[" + path + "]",
                   hint.empty() ? did_you_mean(key, names) : hint);
      continue;
    }
    Value value = entry.value;
    if (const std::string problem = check_value(*p, value); !problem.empty())
      problems.add(entry.location, "{} {}", full, problem);
    else
      result[key] = value;
  }
  return result;
}

void check_tables(const RecipeTable& table, const std::string& path, std::span<const std::string> allowed,
                  RecipeProblems& problems) {
  const auto check = [&](const std::string& name, const std::string& location) {
    if (std::ranges::find(allowed, name) != allowed.end()) return;
    const std::string full = path.empty() ? name : path + "." + name;
    problems.add(location, "[{}] is not a table of {}{}", full, path.empty() ? "a recipe" : "[" + path + "]",
                 did_you_mean(name, allowed));
  };
  for (const auto& [name, inner] : table.tables) check(name, inner.location);
  for (const auto& [name, list] : table.lists) check(name, list.front().location);
}

OrderedJson to_json(const Value& value) {
  return std::visit([](const auto& x) { return OrderedJson(x); }, value);
}

OrderedJson to_json(const RecipeTable& table) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [key, entry] : table.values) json[key] = to_json(entry.value);
  for (const auto& [key, inner] : table.tables) json[key] = to_json(inner);
  for (const auto& [key, list] : table.lists) {
    json[key] = OrderedJson::array();
    for (const RecipeTable& x : list) json[key].push_back(to_json(x));
  }
  return json;
}

}  // namespace gatewright

// Typed, documented parameters of everything that is chosen by name: scorers, selectors, balance terms,
// expert banks, schedules, decorators, and the recipe's own tables. One description serves checking, --help
// and explain.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gatewright/base/error.h"

namespace gatewright {

using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                           std::vector<std::string>>;

/// As TOML has it: "true", "3", "0.5", "1.0", "\"text\"", "[1, 2]".
std::string to_string(const Value& value);

struct Parameter {
  std::string name;
  std::string help;                                       // one sentence, with the unit
  Value default_value;                                    // also fixes the type
  bool required = false;                                  // no default: the recipe must give it
  double min = -std::numeric_limits<double>::infinity();  // for numbers, and for each element of a list
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;  // min itself is not allowed
  bool max_open = false;
  std::vector<std::string> choices = {};  // for strings: what is allowed, empty = anything
  std::string at_most = {};               // another parameter of the piece, which this one must not exceed
  bool same_in_all_layers = false;        // of what the layers of a network share
};

/// "a whole number", "a number", "a text", "true or false", "a list of whole numbers", ...
std::string_view type_name(const Value& value);
/// "at least 1", "in (0, 1]", "one of position, score, reroute", or "" when anything of the type is allowed.
std::string allowed_range(const Parameter& parameter);
/// Why the value is not allowed ("must lie in (0, 1], got 1.7"), or "" when it is. A whole number is accepted
/// where a number is expected (and converted in place).
std::string check_value(const Parameter& parameter, Value& value);

/// Values by name, complete: every parameter of the specification is there.
class Values {
 public:
  Values() = default;
  /// The defaults, with `given` put over them. Unknown names and values out of range are errors that name
  /// `what` ("[top_p] p must lie in (0, 1], got 1.7").
  Values(const std::vector<Parameter>& parameters, const std::map<std::string, Value>& given,
         std::string_view what);

  int64_t integer(std::string_view name) const { return get<int64_t>(name); }
  double number(std::string_view name) const { return get<double>(name); }
  bool flag(std::string_view name) const { return get<bool>(name); }
  const std::string& text(std::string_view name) const { return get<std::string>(name); }
  const std::vector<int64_t>& integers(std::string_view name) const {
    return get<std::vector<int64_t>>(name);
  }
  const std::vector<std::string>& texts(std::string_view name) const {
    return get<std::vector<std::string>>(name);
  }
  const std::vector<double>& numbers(std::string_view name) const { return get<std::vector<double>>(name); }
  const std::map<std::string, Value, std::less<>>& all() const { return values_; }
  void set(const std::string& name, Value value) { values_[name] = std::move(value); }

 private:
  template <typename T>
  const T& get(std::string_view name) const {
    const auto it = values_.find(name);
    if (it == values_.end() || !std::holds_alternative<T>(it->second))
      fail("internal: no parameter '{}' of this type", name);
    return std::get<T>(it->second);
  }
  std::map<std::string, Value, std::less<>> values_;
};

/// What `gatewright list` and `explain` say about one registered piece.
struct Spec {
  std::string name;
  std::string summary;  // one line
  std::string source;   // paper and section, or "" for common practice
  std::string formula;  // a few lines of plain text
  std::vector<Parameter> parameters = {};
  std::string needs_scorer = {};  // works with this scorer only
  bool across_layers = false;     // compares experts of several layers, which must have as many as each other
};

}  // namespace gatewright

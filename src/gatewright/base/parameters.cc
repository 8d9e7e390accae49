#include "gatewright/base/parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "gatewright/base/nearest.h"

namespace gatewright {
namespace {

constexpr std::string_view kTypeNames[] = {"true or false",  "a whole number",          "a number",
                                           "a text",         "a list of whole numbers", "a list of numbers",
                                           "a list of texts"};

/// All digits of whole numbers up to a billion, else the shortest text that reads back as x.
std::string number_text(double x) {
  const bool whole = std::abs(x) < 1e9 && x == std::trunc(x);
  return whole ? fmt::format("{:.0f}", x) : fmt::format("{}", x);
}

/// The same with a fraction in any case, so that it can't be taken for a whole number.
std::string fraction_text(double x) {
  const std::string text = number_text(x);
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

std::string range_problem(const Parameter& p, double x) {
  if (!std::isfinite(x)) return fmt::format("must be a finite number, got {}", x);
  const bool low = p.min_open ? x <= p.min : x < p.min;
  const bool high = p.max_open ? x >= p.max : x > p.max;
  if (!low && !high) return "";
  return fmt::format("must be {}, got {}", allowed_range(p), number_text(x));
}

std::string choice_problem(const Parameter& p, const std::string& text) {
  if (p.choices.empty() || std::ranges::find(p.choices, text) != p.choices.end()) return "";
  return fmt::format("must be {}, got '{}'{}", allowed_range(p), text.substr(0, 60),
                     did_you_mean(text, p.choices));
}

/// Whole numbers where numbers are expected, and an empty list of any kind as a list of this kind.
void convert(const Value& wanted, Value& value) {
  if (std::holds_alternative<double>(wanted) && std::holds_alternative<int64_t>(value)) {
    value = static_cast<double>(std::get<int64_t>(value));
  }
  const auto* whole = std::get_if<std::vector<int64_t>>(&value);
  if (!whole) return;
  if (std::holds_alternative<std::vector<double>>(wanted))
    value = std::vector<double>(whole->begin(), whole->end());
  else if (std::holds_alternative<std::vector<std::string>>(wanted) && whole->empty())
    value = std::vector<std::string>();
}

}  // namespace

std::string to_string(const Value& value) {
  return std::visit(
      [](const auto& x) -> std::string {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, bool>)
          return x ? "true" : "false";
        else if constexpr (std::is_same_v<T, std::string>)
          return fmt::format("\"{}\"", x);
        else if constexpr (std::is_same_v<T, std::vector<std::string>>)
          return x.empty() ? "[]" : fmt::format("[\"{}\"]", fmt::join(x, "\", \""));
        else if constexpr (std::is_same_v<T, double>)
          return fraction_text(x);
        else if constexpr (std::is_same_v<T, int64_t>)
          return fmt::format("{}", x);
        else
          return fmt::format("[{}]", fmt::join(x, ", "));
      },
      value);
}

std::string_view type_name(const Value& value) { return kTypeNames[value.index()]; }

std::string allowed_range(const Parameter& p) {
  if (!p.choices.empty()) return fmt::format("one of {}", fmt::join(p.choices, ", "));
  const bool low = std::isfinite(p.min), high = std::isfinite(p.max);
  if (low && high) {
    return fmt::format("in {}{}, {}{}", p.min_open ? '(' : '[', number_text(p.min), number_text(p.max),
                       p.max_open ? ')' : ']');
  }
  if (low) return fmt::format("{} {}", p.min_open ? "more than" : "at least", number_text(p.min));
  if (high) return fmt::format("{} {}", p.max_open ? "less than" : "at most", number_text(p.max));
  return "";
}

std::string check_value(const Parameter& p, Value& value) {
  convert(p.default_value, value);
  if (value.index() != p.default_value.index()) {
    return fmt::format("must be {}, got {}", type_name(p.default_value), to_string(value).substr(0, 60));
  }
  if (const auto* x = std::get_if<double>(&value)) return range_problem(p, *x);
  if (const auto* x = std::get_if<int64_t>(&value)) return range_problem(p, static_cast<double>(*x));
  if (const auto* x = std::get_if<std::string>(&value)) return choice_problem(p, *x);
  std::string problem;
  if (const auto* list = std::get_if<std::vector<double>>(&value)) {
    for (double x : *list)
      if (problem.empty()) problem = range_problem(p, x);
  } else if (const auto* whole = std::get_if<std::vector<int64_t>>(&value)) {
    for (int64_t x : *whole)
      if (problem.empty()) problem = range_problem(p, static_cast<double>(x));
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    for (const auto& x : *texts)
      if (problem.empty()) problem = choice_problem(p, x);
  }
  return problem;
}

Values::Values(const std::vector<Parameter>& parameters, const std::map<std::string, Value>& given,
               std::string_view what) {
  std::vector<std::string> names;
  for (const Parameter& p : parameters) {
    names.push_back(p.name);
    values_[p.name] = p.default_value;
    if (p.required && !given.contains(p.name)) fail_usage("[{}] {} is missing: {}", what, p.name, p.help);
  }
  for (const auto& [name, value] : given) {
    const auto p = std::ranges::find(parameters, name, &Parameter::name);
    if (p == parameters.end())
      fail_usage("[{}] has no parameter '{}'{}", what, name, did_you_mean(name, names));
    Value checked = value;
    if (const std::string problem = check_value(*p, checked); !problem.empty())
      fail_usage("[{}] {} {}", what, name, problem);
    values_[name] = std::move(checked);
  }
}

}  // namespace gatewright

// Filters of single values: texts and numbers.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"
#include "gatewright/text/jinja/filters.h"
#include "gatewright/text/jinja/operators.h"

namespace gatewright::jinja {
namespace {

std::string_view text_of(Heap& heap, const Value& value) {
  const std::string_view text = to_text(heap, value);
  heap.step(text.size() / 8);
  return text;
}

template <std::string (*change)(std::string_view)>
Value changed(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "the filter", {});
  const std::string_view text = text_of(heap, value);
  return heap.keep(change(text), text);
}

/// Words begin behind white space and ( { [ < -.
std::string title_words(std::string_view text) {
  std::string out;
  const auto ends_word = [](std::string_view c) {
    return std::string_view("-({[<").find(c) != std::string_view::npos || strip(c, Side::kBoth).empty();
  };
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && !ends_word(text.substr(end, character_size(text, end))))
      end += character_size(text, end);
    out += capitalize(text.substr(begin, end - begin));
    const size_t size = end < text.size() ? character_size(text, end) : 0;
    out += text.substr(end, size);
    begin = end + size;
  }
  return out;
}

Value escape(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "escape", {});
  constexpr std::string_view special = "&<>'\"";
  constexpr std::string_view names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  std::string_view text = text_of(heap, value);
  TextBuilder out(heap);
  for (size_t at = text.find_first_of(special); at != std::string_view::npos;
       at = text.find_first_of(special)) {
    out.add(text.substr(0, at));
    out.add_made(names[special.find(text[at])], text.substr(at, 1));
    text.remove_prefix(at + 1);
  }
  out.add(text);
  return out.finish();
}

Value trim(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "trim", {"chars"});
  const std::string_view text = text_of(heap, value);
  return a[0] && !is_none(*a[0]) ? strip(heap, text, Side::kBoth, a.text(0, "")) : strip(text, Side::kBoth);
}

Value replace_filter(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "replace", {"old", "new", "count"}, 2);
  return replace(heap, text_of(heap, value), to_text(heap, *a[0]), to_text(heap, *a[1]),
                 a[2] && is_none(*a[2]) ? -1 : a.integer(2, -1));
}

Value indent(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "indent", {"width", "first", "blank"});
  const auto* given = a[0] ? as<std::string_view>(*a[0]) : nullptr;
  const Value spaces =
      given ? Value(*given)
            : calculate(heap, BinaryOperator::kMultiply, std::string_view(" "), a.integer(0, 4));
  const auto indention = std::get<std::string_view>(spaces);
  const bool first = a.truth(1, false), blank = a.truth(2, false);
  const std::string_view text = text_of(heap, value);
  std::vector<std::string_view> lines = split_lines(heap, text);
  if (text.empty() || text.ends_with('\n') || text.ends_with('\r')) lines.emplace_back();
  TextBuilder out(heap);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out.add("\n");
    if (i == 0 ? first : blank || !lines[i].empty()) out.add(indention);
    out.add(lines[i]);
  }
  return out.finish();
}

Value to_string(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "string", {});
  return to_text(heap, value);
}

Value length(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "length", {});
  if (const auto* text = as<std::string_view>(value)) {
    heap.step(text->size() / 16);
    return static_cast<int64_t>(count_characters(*text));
  }
  return static_cast<int64_t>(elements(heap, value).size());
}

Value otherwise(Heap&, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "default", {"default_value", "boolean"});
  const bool missing = is_undefined(value) || (a.truth(1, false) && !is_true(value));
  if (!missing) return value;
  return a[0] ? *a[0] : Value(std::string_view());
}

Value tojson(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style{.ensure_ascii = a.truth(0, false), .sort_keys = a.truth(3, false)};
  if (a[1] && !is_none(*a[1])) {
    const auto* text = as<std::string_view>(*a[1]);
    const int64_t width = text ? 0 : std::max<int64_t>(0, a.integer(1, 0));
    require(width <= 100, "tojson: an indent of {} is more than 100", width);
    style.indent = text ? std::string(*text) : std::string(static_cast<size_t>(width), ' ');
    style.between = ",";
  }
  if (a[2] && !is_none(*a[2])) {
    const std::vector<Value>& pair = elements(heap, *a[2]);
    require(pair.size() == 2 && as<std::string_view>(pair[0]) && as<std::string_view>(pair[1]),
            "tojson: separators are two texts");
    style.between = std::get<std::string_view>(pair[0]);
    style.colon = std::get<std::string_view>(pair[1]);
  }
  return json_text(heap, value, style);
}

/// A whole text as a number, spaces around it; a plus sign is allowed.
template <typename Number>
std::optional<Number> parsed(std::string_view text, int base = 10) {
  text = strip(text, Side::kBoth);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  Number value{};
  std::from_chars_result result{};
  if constexpr (std::is_integral_v<Number>)
    result = std::from_chars(text.data(), text.data() + text.size(), value, base);
  else
    result = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = result.ec == std::errc() && result.ptr == text.data() + text.size();
  return whole ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> truncated(double number) {
  constexpr double kLargest = 9.2e18;
  return std::abs(number) < kLargest ? std::optional(static_cast<int64_t>(number)) : std::nullopt;
}

Value to_integer(Heap& heap, const Value& value, const Arguments& arguments) {
  require_defined(value);
  const Bound a(arguments, "int", {"default", "base"});
  const int64_t base = a.integer(1, 10);
  require(base >= 2 && base <= 36, "int: the base must be 2 to 36, not {}", base);
  std::optional<int64_t> result = integer_of(value);
  if (const auto* text = as<std::string_view>(value)) {
    heap.step(text->size() / 8);
    result = parsed<int64_t>(*text, static_cast<int>(base));
    if (const auto number = parsed<double>(*text); !result && number) result = truncated(*number);
  } else if (const auto* number = as<double>(value)) {
    result = truncated(*number);
  }
  if (result) return *result;
  return a[0] ? *a[0] : Value(int64_t{0});
}

Value to_float(Heap& heap, const Value& value, const Arguments& arguments) {
  require_defined(value);
  const Bound a(arguments, "float", {"default"});
  std::optional<double> result = number_of(value);
  if (const auto* text = as<std::string_view>(value)) {
    heap.step(text->size() / 8);
    result = parsed<double>(*text);
  }
  if (result) return *result;
  return a[0] ? *a[0] : Value(0.0);
}

Value absolute(Heap&, const Value& value, const Arguments& arguments) {
  Bound(arguments, "abs", {});
  const auto number = number_of(value);
  if (!number) fail("abs: a number was expected, not {}", kind_name(value));
  if (*number < 0) return negate(value);
  const auto integer = integer_of(value);
  return integer ? Value(*integer) : Value(*number);
}

/// To the nearest, ties to even, of the exact binary value: what printing with so many digits does.
double rounded(double number, int digits) {
  if (!std::isfinite(number)) return number;
  return *parsed<double>(fmt::format("{:.{}f}", number, digits));
}

Value round(Heap&, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "round", {"precision", "method"});
  const auto number = number_of(value);
  if (!number) fail("round: a number was expected, not {}", kind_name(value));
  const int64_t precision = a.integer(0, 0);
  require(precision >= 0 && precision <= 20, "round: a precision of 0 to 20 was expected, not {}", precision);
  const std::string_view method = a.text(1, "common");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(*number * scale) / scale;
  if (method == "floor") return std::floor(*number * scale) / scale;
  if (method != "common") fail("round: the method {} is none of common, ceil, floor", Quoted{method});
  const auto integer = integer_of(value);
  return integer ? Value(*integer) : Value(rounded(*number, static_cast<int>(precision)));
}

constexpr Filter kValueFilters[] = {
    {"upper", changed<to_upper>},
    {"lower", changed<to_lower>},
    {"capitalize", changed<capitalize>},
    {"title", changed<title_words>},
    {"escape", escape},
    {"e", escape},
    {"trim", trim},
    {"replace", replace_filter},
    {"indent", indent},
    {"string", to_string},
    {"safe", to_string},
    {"length", length},
    {"count", length},
    {"default", otherwise},
    {"d", otherwise},
    {"tojson", tojson},
    {"int", to_integer},
    {"float", to_float},
    {"abs", absolute},
    {"round", round},
};

}  // namespace

std::span<const Filter> value_filters() { return kValueFilters; }

}  // namespace gatewright::jinja

// The filters and tests of templates, by name. An unknown name fails with the nearest.
#pragma once

#include <span>
#include <string_view>

#include "gatewright/text/jinja/arguments.h"
#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

Value apply_filter(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments);
bool apply_test(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments);

struct Filter {
  std::string_view name;
  Value (*apply)(Heap& heap, const Value& value, const Arguments& arguments);
};
std::span<const Filter> value_filters();
std::span<const Filter> sequence_filters();

/// JSON as Python's json.dumps writes it.
struct JsonStyle {
  bool ensure_ascii = false;                      // others as \uXXXX
  std::optional<std::string> indent = {};         // of one level; absent: all on one line
  std::string_view between = ", ", colon = ": ";  // separators
  bool sort_keys = false;
};
std::string_view json_text(Heap& heap, const Value& value, const JsonStyle& style);

}  // namespace gatewright::jinja

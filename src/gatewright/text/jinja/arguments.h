// The arguments of a call, and their names as filters, tests and functions declare them.
#pragma once

#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

/// Arguments in the order of the names that `function` declares. Too many, unknown and missing ones fail.
class Bound {
 public:
  Bound(const Arguments& arguments, std::string_view function, std::initializer_list<std::string_view> names,
        size_t required = 0);

  /// Null when it is not given.
  const Value* operator[](size_t i) const { return values_[i]; }
  bool truth(size_t i, bool otherwise) const { return values_[i] ? is_true(*values_[i]) : otherwise; }
  int64_t integer(size_t i, int64_t otherwise) const;
  std::string_view text(size_t i, std::string_view otherwise) const;

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace gatewright::jinja

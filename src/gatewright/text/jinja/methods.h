// Methods of texts, lists and mappings that templates call.
#pragma once

#include <string_view>

#include "gatewright/text/jinja/arguments.h"
#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

bool has_method(const Value& object, std::string_view name);
/// has_method(object, name) holds.
Value call_method(Heap& heap, const Value& object, std::string_view name, const Arguments& arguments);

}  // namespace gatewright::jinja

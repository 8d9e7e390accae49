// Python's arithmetic and access to parts of values.
#pragma once

#include <string_view>

#include "gatewright/text/jinja/syntax.h"
#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

/// + - * / // % ** ~ of two values. Integers beyond 64 bits, division by zero and kinds that don't go
/// together fail.
Value calculate(Heap& heap, BinaryOperator operation, const Value& a, const Value& b);
Value negate(const Value& value);
bool compare(Heap& heap, Comparator comparator, const Value& a, const Value& b);

/// object.name: a method first, then a key; else undefined. Of undefined it fails.
Value attribute_of(Heap& heap, const Value& object, std::string_view name);
/// object[index]: a key or position (negative ones from the end), then as attribute_of; else undefined.
Value item_of(Heap& heap, const Value& object, const Value& index);
/// object[start:stop:step] of a list or text; undefined bounds are left out.
Value slice_of(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);

}  // namespace gatewright::jinja

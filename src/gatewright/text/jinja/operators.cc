#include "gatewright/text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"
#include "gatewright/text/jinja/methods.h"

namespace gatewright::jinja {
namespace {

std::string_view sign_of(BinaryOperator operation) {
  constexpr std::string_view signs[] = {"or", "and", "+", "-", "*", "/", "//", "%", "**", "~"};
  return signs[static_cast<size_t>(operation)];
}

[[noreturn]] void fail_kinds(BinaryOperator operation, const Value& a, const Value& b) {
  fail("{} {} {} has no meaning", kind_name(a), sign_of(operation), kind_name(b));
}

[[noreturn]] void fail_range() { fail("an integer does not fit 64 bits"); }
[[noreturn]] void fail_zero() { fail("division by zero"); }

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) fail_zero();
  if (b == -1) {
    if (a == INT64_MIN) fail_range();
    return -a;
  }
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

int64_t modulo(int64_t a, int64_t b) {
  if (b == 0) fail_zero();
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double modulo(double a, double b) {
  if (b == 0) fail_zero();
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t multiply(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) fail_range();
  return result;
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent) result = multiply(result, base);  // at most 63 times before it fails
  return result;
}

Value calculate_integers(BinaryOperator operation, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (operation) {
    case BinaryOperator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) fail_range();
      return result;
    case BinaryOperator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) fail_range();
      return result;
    case BinaryOperator::kMultiply:
      return multiply(a, b);
    case BinaryOperator::kFloorDivide:
      return floor_divide(a, b);
    case BinaryOperator::kModulo:
      return modulo(a, b);
    case BinaryOperator::kPower:
      if (b < 0 && a == 0) fail_zero();
      return b < 0 ? Value(std::pow(static_cast<double>(a), static_cast<double>(b))) : Value(power(a, b));
    default:  // divide
      if (b == 0) fail_zero();
      return static_cast<double>(a) / static_cast<double>(b);
  }
}

Value calculate_floats(BinaryOperator operation, double a, double b) {
  switch (operation) {
    case BinaryOperator::kAdd:
      return a + b;
    case BinaryOperator::kSubtract:
      return a - b;
    case BinaryOperator::kMultiply:
      return a * b;
    case BinaryOperator::kFloorDivide:
      if (b == 0) fail_zero();
      return std::floor(a / b);
    case BinaryOperator::kModulo:
      return modulo(a, b);
    case BinaryOperator::kPower:
      if (a == 0 && b < 0) fail_zero();
      return std::pow(a, b);
    default:  // divide
      if (b == 0) fail_zero();
      return a / b;
  }
}

Value joined(Heap& heap, std::string_view a, std::string_view b) {
  TextBuilder out(heap);
  out.add(a);
  out.add(b);
  return out.finish();
}

Value joined_lists(Heap& heap, const List& a, const List& b) {
  heap.claim((a.items.size() + b.items.size()) * sizeof(Value));
  std::vector<Value> items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return heap.make_list(std::move(items), a.tuple);
}

/// How often something of `size` parts can be repeated at all.
uint64_t repetitions(Heap& heap, int64_t times, uint64_t size, uint64_t part_bytes) {
  if (times <= 0 || size == 0) return 0;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(times), size * part_bytes, &bytes)) bytes = UINT64_MAX;
  heap.claim(bytes);
  return static_cast<uint64_t>(times);
}

Value repeated(Heap& heap, const Value& value, int64_t times) {
  if (const auto* text = as<std::string_view>(value)) {
    MarkedText out;
    for (uint64_t left = repetitions(heap, times, text->size(), 1); left > 0; --left) heap.append(out, *text);
    return heap.adopt(std::move(out));
  }
  const List& list = *std::get<List*>(value);
  std::vector<Value> items;
  for (uint64_t left = repetitions(heap, times, list.items.size(), sizeof(Value)); left > 0; --left)
    items.insert(items.end(), list.items.begin(), list.items.end());
  return heap.make_list(std::move(items), list.tuple);
}

bool can_repeat(const Value& value) { return as<std::string_view>(value) || as<List*>(value); }

/// Positions that a slice takes from `size` parts.
std::vector<size_t> slice_positions(Heap& heap, size_t size, const Value& start, const Value& stop,
                                    const Value& step) {
  const auto count = static_cast<int64_t>(size);
  const auto given = [](const Value& bound) -> std::optional<int64_t> {
    if (is_undefined(bound) || is_none(bound)) return std::nullopt;
    const auto value = integer_of(bound);
    if (!value) fail("the bounds of a slice are integers, not {}", kind_name(bound));
    return value;
  };
  const int64_t stride = given(step).value_or(1);
  if (stride == 0) fail("the step of a slice can't be 0");
  const int64_t least = stride > 0 ? 0 : -1, most = stride > 0 ? count : count - 1;
  const auto bound = [&](const Value& value, int64_t otherwise) {
    const auto position = given(value);
    if (!position) return otherwise;
    return *position < 0 ? std::max(*position < -count ? least : *position + count, least)
                         : std::min(*position, most);
  };
  std::vector<size_t> positions;
  const int64_t end = bound(stop, stride > 0 ? count : -1);
  int64_t i = bound(start, stride > 0 ? 0 : count - 1);
  while (stride > 0 ? i < end : i > end) {
    heap.claim(sizeof(size_t));
    positions.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  return positions;
}

}  // namespace

Value calculate(Heap& heap, BinaryOperator operation, const Value& a, const Value& b) {
  if (operation == BinaryOperator::kConcatenate) return joined(heap, to_text(heap, a), to_text(heap, b));
  require_defined(a), require_defined(b);
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y) return calculate_integers(operation, *x, *y);
  const auto p = number_of(a), q = number_of(b);
  if (p && q) return calculate_floats(operation, *p, *q);
  if (operation == BinaryOperator::kAdd) {
    const auto *text = as<std::string_view>(a), *other = as<std::string_view>(b);
    if (text && other) return joined(heap, *text, *other);
    const auto *list = as<List*>(a), *other_list = as<List*>(b);
    if (list && other_list && (*list)->tuple == (*other_list)->tuple)
      return joined_lists(heap, **list, **other_list);
  }
  if (operation == BinaryOperator::kMultiply) {
    if (can_repeat(a) && y) return repeated(heap, a, *y);
    if (x && can_repeat(b)) return repeated(heap, b, *x);
  }
  fail_kinds(operation, a, b);
}

Value negate(const Value& value) {
  require_defined(value);
  if (const auto integer = integer_of(value)) {
    if (*integer == INT64_MIN) fail_range();
    return -*integer;
  }
  const auto number = number_of(value);
  if (!number) fail("- {} has no meaning", kind_name(value));
  return -*number;
}

bool compare(Heap& heap, Comparator comparator, const Value& a, const Value& b) {
  switch (comparator) {
    case Comparator::kEqual:
      return equal(heap, a, b);
    case Comparator::kNotEqual:
      return !equal(heap, a, b);
    case Comparator::kLess:
      return less(heap, a, b);
    case Comparator::kLessEqual:
      return less(heap, a, b) || equal(heap, a, b);
    case Comparator::kGreater:
      return less(heap, b, a);
    case Comparator::kGreaterEqual:
      return less(heap, b, a) || equal(heap, a, b);
    case Comparator::kIn:
      return contains(heap, b, a);
    default:
      return !contains(heap, b, a);
  }
}

Value attribute_of(Heap& heap, const Value& object, std::string_view name) {
  require_defined(object);
  if (has_method(object, name)) return heap.make_function({.name = name, .object = object});
  if (const auto* mapping = as<Mapping*>(object)) {
    heap.step(1 + (*mapping)->entries.size() / 16);
    if (const Value* found = (*mapping)->find(name)) return *found;
  }
  return Undefined{name};
}

Value item_of(Heap& heap, const Value& object, const Value& index) {
  require_defined(object);
  if (const auto* mapping = as<Mapping*>(object); mapping && !(*mapping)->is_namespace) {
    heap.step(1 + (*mapping)->entries.size() / 16);
    if (const Value* found = (*mapping)->find(index)) return *found;
  }
  if (const auto* name = as<std::string_view>(index)) return attribute_of(heap, object, *name);
  const auto position = integer_of(index);
  const auto* list = as<List*>(object);
  const auto* text = as<std::string_view>(object);
  if (position && (list || text)) {
    if (text) heap.step(text->size() / 16);
    const auto count = static_cast<int64_t>(list ? (*list)->items.size() : count_characters(*text));
    const int64_t at = *position < 0 ? *position + count : *position;
    if (at < 0 || at >= count) return Undefined{"an element past the end"};
    if (list) return (*list)->items[static_cast<size_t>(at)];
    const size_t begin = byte_offset(*text, static_cast<size_t>(at));
    return text->substr(begin, character_size(*text, begin));
  }
  return Undefined{"an element"};
}

Value slice_of(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  require_defined(object);
  const auto* list = as<List*>(object);
  const auto* text = as<std::string_view>(object);
  if (!list && !text) fail("{} can't be sliced", kind_name(object));
  const std::vector<Value>& parts = elements(heap, object);
  const std::vector<size_t> positions = slice_positions(heap, parts.size(), start, stop, step);
  if (text) {
    TextBuilder out(heap);
    for (const size_t i : positions) out.add(std::get<std::string_view>(parts[i]));
    return out.finish();
  }
  heap.claim(positions.size() * sizeof(Value));
  std::vector<Value> items;
  for (const size_t i : positions) items.push_back(parts[i]);
  return heap.make_list(std::move(items), (*list)->tuple);
}

}  // namespace gatewright::jinja

#include "gatewright/text/jinja/filters.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"
#include "gatewright/text/jinja/operators.h"

namespace gatewright::jinja {
namespace {

struct Test {
  std::string_view name;
  bool (*holds)(Heap& heap, const Value& value, const Arguments& arguments);
};

template <bool (*holds)(const Value&)>
bool plain(Heap&, const Value& value, const Arguments& arguments) {
  Bound(arguments, "the test", {});
  return holds(value);
}

template <typename Kind>
bool is_a(const Value& value) {
  return std::holds_alternative<Kind>(value);
}
bool is_defined(const Value& value) { return !is_undefined(value); }
bool is_integer(const Value& value) { return is_a<int64_t>(value); }
bool is_number(const Value& value) { return number_of(value).has_value(); }
bool is_mapping(const Value& value) {
  const auto* mapping = as<Mapping*>(value);
  return mapping && !(*mapping)->is_namespace;
}
bool is_sequence(const Value& value) {
  return is_undefined(value) || is_a<std::string_view>(value) || is_a<List*>(value) || is_mapping(value);
}
bool is_the_true(const Value& value) { return is_a<bool>(value) && is_true(value); }
bool is_the_false(const Value& value) { return is_a<bool>(value) && !is_true(value); }

bool is_upper_text(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "upper", {});
  return is_upper(to_text(heap, value));
}
bool is_lower_text(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "lower", {});
  return is_lower(to_text(heap, value));
}

int64_t rest_of_division(const Value& value, int64_t divisor, std::string_view test) {
  const auto integer = integer_of(value);
  if (!integer) fail("{}: an integer was expected, not {}", test, kind_name(value));
  require(divisor != 0, "{}: division by zero", test);
  return divisor == -1 ? 0 : *integer % divisor;
}

bool is_odd(Heap&, const Value& value, const Arguments& arguments) {
  Bound(arguments, "odd", {});
  return rest_of_division(value, 2, "odd") != 0;
}
bool is_even(Heap&, const Value& value, const Arguments& arguments) {
  Bound(arguments, "even", {});
  return rest_of_division(value, 2, "even") == 0;
}
bool is_divisible(Heap&, const Value& value, const Arguments& arguments) {
  return rest_of_division(value, Bound(arguments, "divisibleby", {"num"}, 1).integer(0, 1), "divisibleby") ==
         0;
}

template <Comparator comparator>
bool compares(Heap& heap, const Value& value, const Arguments& arguments) {
  return compare(heap, comparator, value, *Bound(arguments, "the test", {"other"}, 1)[0]);
}

/// Python's `is`: the same list or mapping; equal values of the same kind.
bool is_same(Heap& heap, const Value& value, const Arguments& arguments) {
  const Value& other = *Bound(arguments, "sameas", {"other"}, 1)[0];
  if (value.index() != other.index()) return false;
  if (const auto* list = as<List*>(value)) return *list == std::get<List*>(other);
  if (const auto* mapping = as<Mapping*>(value)) return *mapping == std::get<Mapping*>(other);
  return equal(heap, value, other);
}

constexpr Test kTests[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_a<std::string_view>>},
    {"mapping", plain<is_mapping>},
    {"iterable", plain<is_sequence>},
    {"sequence", plain<is_sequence>},
    {"number", plain<is_number>},
    {"integer", plain<is_integer>},
    {"float", plain<is_a<double>>},
    {"boolean", plain<is_a<bool>>},
    {"true", plain<is_the_true>},
    {"false", plain<is_the_false>},
    {"callable", plain<is_a<Function*>>},
    {"upper", is_upper_text},
    {"lower", is_lower_text},
    {"odd", is_odd},
    {"even", is_even},
    {"divisibleby", is_divisible},
    {"equalto", compares<Comparator::kEqual>},
    {"eq", compares<Comparator::kEqual>},
    {"==", compares<Comparator::kEqual>},
    {"ne", compares<Comparator::kNotEqual>},
    {"!=", compares<Comparator::kNotEqual>},
    {"lt", compares<Comparator::kLess>},
    {"lessthan", compares<Comparator::kLess>},
    {"<", compares<Comparator::kLess>},
    {"le", compares<Comparator::kLessEqual>},
    {"<=", compares<Comparator::kLessEqual>},
    {"gt", compares<Comparator::kGreater>},
    {"greaterthan", compares<Comparator::kGreater>},
    {">", compares<Comparator::kGreater>},
    {"ge", compares<Comparator::kGreaterEqual>},
    {">=", compares<Comparator::kGreaterEqual>},
    {"in", compares<Comparator::kIn>},
    {"sameas", is_same},
};

template <typename Piece>
const Piece* find_piece(std::span<const Piece> pieces, std::string_view name) {
  const auto it = std::ranges::find(pieces, name, &Piece::name);
  return it == pieces.end() ? nullptr : &*it;
}

[[noreturn]] void fail_unknown(std::string_view what, std::string_view name,
                               const std::vector<std::string>& names) {
  fail("there is no {} {}{}", what, Quoted{name}, did_you_mean(name, names));
}

}  // namespace

Value apply_filter(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments) {
  heap.step();
  const Filter* filter = find_piece(value_filters(), name);
  if (!filter) filter = find_piece(sequence_filters(), name);
  if (filter) return filter->apply(heap, value, arguments);
  std::vector<std::string> names;
  for (const Filter& f : value_filters()) names.emplace_back(f.name);
  for (const Filter& f : sequence_filters()) names.emplace_back(f.name);
  fail_unknown("filter", name, names);
}

bool apply_test(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments) {
  heap.step();
  if (const Test* test = find_piece(std::span<const Test>(kTests), name))
    return test->holds(heap, value, arguments);
  std::vector<std::string> names;
  for (const Test& t : kTests) names.emplace_back(t.name);
  fail_unknown("test", name, names);
}

}  // namespace gatewright::jinja

// Filters of lists, mappings and texts as sequences.
#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/text/jinja/characters.h"
#include "gatewright/text/jinja/filters.h"
#include "gatewright/text/jinja/operators.h"

namespace gatewright::jinja {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// The value at "a.b.0"; an integer is a position.
Value at_path(Heap& heap, const Value& value, const Value& path) {
  if (integer_of(path)) return item_of(heap, value, path);
  const auto* text = as<std::string_view>(path);
  if (!text) fail("an attribute is a text, not {}", kind_name(path));
  Value result = value;
  const std::string_view dot = ".";
  for (const std::string_view part : split(heap, *text, &dot, -1))
    result =
        item_of(heap, result, is_number(part) ? Value(int64_t{std::stoi(std::string(part))}) : Value(part));
  return result;
}

/// What elements are compared by: themselves or an attribute; texts without regard to case unless asked.
Value key_of(Heap& heap, const Value& element, const Value* attribute, bool case_sensitive) {
  const Value value = attribute && !is_none(*attribute) ? at_path(heap, element, *attribute) : element;
  const auto* text = as<std::string_view>(value);
  return text && !case_sensitive ? Value(heap.keep(to_lower(*text), *text)) : value;
}

Value new_list(Heap& heap, std::vector<Value> items) { return heap.make_list(std::move(items)); }

Value first(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "first", {});
  const std::vector<Value>& items = elements(heap, value);
  return items.empty() ? Value(Undefined{"the first of nothing"}) : items.front();
}

Value last(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "last", {});
  const std::vector<Value>& items = elements(heap, value);
  return items.empty() ? Value(Undefined{"the last of nothing"}) : items.back();
}

Value list(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "list", {});
  return new_list(heap, elements(heap, value));
}

Value reverse(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "reverse", {});
  std::vector<Value> items = elements(heap, value);
  std::ranges::reverse(items);
  if (!as<std::string_view>(value)) return new_list(heap, std::move(items));
  TextBuilder out(heap);
  for (const Value& character : items) out.add(std::get<std::string_view>(character));
  return out.finish();
}

Value join(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "join", {"d", "attribute"});
  const std::string_view between = a[0] ? to_text(heap, *a[0]) : "";
  TextBuilder out(heap);
  bool is_first = true;
  for (const Value& element : elements(heap, value)) {
    if (!std::exchange(is_first, false)) out.add(between);
    out.add(to_text(heap, a[1] && !is_none(*a[1]) ? at_path(heap, element, *a[1]) : element));
  }
  return out.finish();
}

Value items(Heap& heap, const Value& value, const Arguments& arguments) {
  Bound(arguments, "items", {});
  std::vector<Value> pairs;
  if (is_undefined(value)) return new_list(heap, {});
  const auto* mapping = as<Mapping*>(value);
  if (!mapping || (*mapping)->is_namespace) fail("items: a mapping was expected, not {}", kind_name(value));
  for (const auto& [key, element] : (*mapping)->entries)
    pairs.emplace_back(heap.make_list({key, element}, true));
  return new_list(heap, std::move(pairs));
}

std::vector<Value> sorted(Heap& heap, const std::vector<Value>& values, bool reversed, const auto& key) {
  heap.claim(2 * values.size() * sizeof(std::pair<Value, Value>));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& element : values) keyed.emplace_back(key(element), element);
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    return reversed ? less(heap, b.first, a.first) : less(heap, a.first, b.first);
  });
  std::vector<Value> result;
  for (const auto& [unused, element] : keyed) result.push_back(element);
  return result;
}

Value sort(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const auto key = [&](const Value& element) { return key_of(heap, element, a[2], a.truth(1, false)); };
  return new_list(heap, sorted(heap, elements(heap, value), a.truth(0, false), key));
}

Value dictsort(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string_view by = a.text(1, "key");
  require(by == "key" || by == "value", "dictsort: by must be 'key' or 'value'");
  const Value position = int64_t{by == "value"};
  const Value pairs = items(heap, value, {});
  const auto key = [&](const Value& pair) { return key_of(heap, pair, &position, a.truth(0, false)); };
  return new_list(heap, sorted(heap, elements(heap, pairs), a.truth(2, false), key));
}

Value unique(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "unique", {"case_sensitive", "attribute"});
  std::vector<Value> keys, kept;
  for (const Value& element : elements(heap, value)) {
    const Value key = key_of(heap, element, a[1], a.truth(0, false));
    if (std::ranges::any_of(keys, [&](const Value& other) { return equal(heap, key, other); })) continue;
    heap.claim(2 * sizeof(Value));
    keys.push_back(key);
    kept.push_back(element);
  }
  return new_list(heap, std::move(kept));
}

template <bool largest>
Value extreme(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, largest ? "max" : "min", {"case_sensitive", "attribute"});
  const std::vector<Value>& all = elements(heap, value);
  if (all.empty()) return Undefined{"the extreme of nothing"};
  Value best = all[0], best_key = key_of(heap, best, a[1], a.truth(0, false));
  for (size_t i = 1; i < all.size(); ++i) {
    const Value key = key_of(heap, all[i], a[1], a.truth(0, false));
    if (largest ? !less(heap, best_key, key) : !less(heap, key, best_key)) continue;
    best = all[i];
    best_key = key;
  }
  return best;
}

Value sum(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "sum", {"attribute", "start"});
  Value total = a[1] ? *a[1] : Value(int64_t{0});
  for (const Value& element : elements(heap, value))
    total = calculate(heap, BinaryOperator::kAdd, total,
                      a[0] && !is_none(*a[0]) ? at_path(heap, element, *a[0]) : element);
  return total;
}

/// An attribute and not, as value.name would, a key.
Value attribute(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound a(arguments, "attr", {"name"}, 1);
  const std::string_view name = a.text(0, "");
  const Value found = attribute_of(heap, value, name);
  const auto* mapping = as<Mapping*>(value);
  return mapping && !(*mapping)->is_namespace && !as<Function*>(found) ? Undefined{name} : found;
}

/// The rest of the positional arguments, with the named ones.
Arguments from(const Arguments& arguments, size_t begin) {
  return {{arguments.positional.begin() + static_cast<std::ptrdiff_t>(begin), arguments.positional.end()},
          arguments.named};
}

std::string_view name_of(const Value& value, std::string_view what) {
  const auto* name = as<std::string_view>(value);
  if (!name) fail("the name of a {} is a text, not {}", what, kind_name(value));
  return *name;
}

Value map(Heap& heap, const Value& value, const Arguments& arguments) {
  std::vector<Value> mapped;
  if (!is_true(value)) return new_list(heap, {});  // none, too
  const Heap::Deeper deeper(heap);                 // map of map of map ...
  if (arguments.positional.empty()) {
    const Bound a(arguments, "map", {"attribute", "default"}, 1);
    for (const Value& element : elements(heap, value)) {
      const Value found = at_path(heap, element, *a[0]);
      mapped.push_back(is_undefined(found) && a[1] ? *a[1] : found);
    }
  } else {
    const std::string_view filter = name_of(arguments.positional[0], "filter");
    const Arguments rest = from(arguments, 1);
    for (const Value& element : elements(heap, value))
      mapped.push_back(apply_filter(heap, filter, element, rest));
  }
  return new_list(heap, std::move(mapped));
}

/// Elements for which a test, named by the argument at `begin`, gives `wanted`; without one, whether it is
/// true.
template <bool wanted, bool by_attribute>
Value chosen(Heap& heap, const Value& value, const Arguments& arguments) {
  constexpr size_t begin = by_attribute ? 1 : 0;
  const Heap::Deeper deeper(heap);
  require(arguments.positional.size() >= begin, "selectattr and rejectattr need the name of an attribute");
  const bool tested = arguments.positional.size() > begin;
  const std::string_view test = tested ? name_of(arguments.positional[begin], "test") : "";
  const Arguments rest = tested ? from(arguments, begin + 1) : Arguments{};
  std::vector<Value> kept;
  if (!is_true(value)) return new_list(heap, {});  // none, too
  for (const Value& element : elements(heap, value)) {
    heap.step();
    const Value looked_at = by_attribute ? at_path(heap, element, arguments.positional[0]) : element;
    if ((tested ? apply_test(heap, test, looked_at, rest) : is_true(looked_at)) == wanted)
      kept.push_back(element);
  }
  return new_list(heap, std::move(kept));
}

constexpr Filter kSequenceFilters[] = {
    {"first", first},
    {"last", last},
    {"list", list},
    {"reverse", reverse},
    {"join", join},
    {"items", items},
    {"sort", sort},
    {"dictsort", dictsort},
    {"unique", unique},
    {"min", extreme<false>},
    {"max", extreme<true>},
    {"sum", sum},
    {"attr", attribute},
    {"map", map},
    {"select", chosen<true, false>},
    {"reject", chosen<false, false>},
    {"selectattr", chosen<true, true>},
    {"rejectattr", chosen<false, true>},
};

}  // namespace

std::span<const Filter> sequence_filters() { return kSequenceFilters; }

}  // namespace gatewright::jinja

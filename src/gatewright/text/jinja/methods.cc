#include "gatewright/text/jinja/methods.h"

#include <algorithm>
#include <span>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"

namespace gatewright::jinja {
namespace {

template <typename Object>
struct Method {
  std::string_view name;
  Value (*call)(Heap& heap, Object object, const Arguments& arguments);
};

template <typename Object>
const Method<Object>* find_method(std::span<const Method<Object>> methods, std::string_view name) {
  const auto it = std::ranges::find(methods, name, &Method<Object>::name);
  return it == methods.end() ? nullptr : &*it;
}

// --- texts ---

void none(const Arguments& arguments, std::string_view name) { Bound(arguments, name, {}); }

template <Side side>
Value strip_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "strip", {"characters"});
  heap.step(text.size() / 16);
  if (!a[0] || is_none(*a[0])) return strip(text, side);
  return strip(heap, text, side, a.text(0, ""));
}

template <std::string (*change)(std::string_view)>
Value changed(Heap& heap, std::string_view text, const Arguments& arguments) {
  none(arguments, "the method");
  heap.step(text.size() / 8);
  return heap.keep(change(text), text);
}

template <bool (*holds)(std::string_view)>
Value asked(Heap& heap, std::string_view text, const Arguments& arguments) {
  none(arguments, "the method");
  heap.step(text.size() / 8);
  return holds(text);
}

/// With one text or a tuple of them.
template <typename Matches>
Value any_affix(Heap& heap, const Arguments& arguments, std::string_view name, const Matches& matches) {
  const Bound a(arguments, name, {"affix"}, 1);
  const auto* several = as<List*>(*a[0]);
  if (!several) return matches(a.text(0, ""));
  for (const Value& affix : elements(heap, *a[0])) {
    const auto* text = as<std::string_view>(affix);
    if (!text) fail("{} takes texts, not {}", name, kind_name(affix));
    if (matches(*text)) return true;
  }
  return false;
}

Value startswith(Heap& heap, std::string_view text, const Arguments& arguments) {
  return any_affix(heap, arguments, "startswith",
                   [&](std::string_view affix) { return text.starts_with(affix); });
}

Value endswith(Heap& heap, std::string_view text, const Arguments& arguments) {
  return any_affix(heap, arguments, "endswith",
                   [&](std::string_view affix) { return text.ends_with(affix); });
}

Value list_of(Heap& heap, const std::vector<std::string_view>& parts) {
  heap.step(parts.size());
  return heap.make_list(std::vector<Value>(parts.begin(), parts.end()));
}

template <auto split_function>
Value split_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "split", {"sep", "maxsplit"});
  const std::string_view separator = a[0] && !is_none(*a[0]) ? a.text(0, "") : "";
  const bool at_spaces = !a[0] || is_none(*a[0]);
  return list_of(heap, split_function(heap, text, at_spaces ? nullptr : &separator, a.integer(1, -1)));
}

Value splitlines(Heap& heap, std::string_view text, const Arguments& arguments) {
  none(arguments, "splitlines");
  return list_of(heap, split_lines(heap, text));
}

Value replace_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "replace", {"old", "new", "count"}, 2);
  return replace(heap, text, a.text(0, ""), a.text(1, ""), a.integer(2, -1));
}

Value join_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "join", {"iterable"}, 1);
  TextBuilder out(heap);
  bool first = true;
  for (const Value& part : elements(heap, *a[0])) {
    const auto* part_text = as<std::string_view>(part);
    if (!part_text) fail("join takes texts, not {}", kind_name(part));
    if (!std::exchange(first, false)) out.add(text);
    out.add(*part_text);
  }
  return out.finish();
}

Value position(std::string_view text, size_t at) {
  return at == std::string_view::npos ? int64_t{-1}
                                      : static_cast<int64_t>(count_characters(text.substr(0, at)));
}

Value find_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "find", {"part"}, 1);
  heap.step(text.size() / 16);
  return position(text, find_text(heap, text, a.text(0, "")));
}

Value rfind_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "rfind", {"part"}, 1);
  heap.step(text.size() / 16);
  return position(text, rfind_text(heap, text, a.text(0, "")));
}

Value count_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  const Bound a(arguments, "count", {"part"}, 1);
  const std::string_view part = a.text(0, "");
  heap.step(text.size() / 16);
  if (part.empty()) return static_cast<int64_t>(count_characters(text) + 1);
  int64_t count = 0;
  for (size_t at = find_text(heap, text, part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

Value removeprefix(Heap&, std::string_view text, const Arguments& arguments) {
  const std::string_view affix = Bound(arguments, "removeprefix", {"prefix"}, 1).text(0, "");
  return text.starts_with(affix) ? text.substr(affix.size()) : text;
}

Value removesuffix(Heap&, std::string_view text, const Arguments& arguments) {
  const std::string_view affix = Bound(arguments, "removesuffix", {"suffix"}, 1).text(0, "");
  return text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text;
}

/// Of str.format: {} in turn, {0}, {name}, {{ and }}; without format specifications.
Value format_method(Heap& heap, std::string_view text, const Arguments& arguments) {
  TextBuilder out(heap);
  size_t next = 0;
  const auto argument = [&](std::string_view name) -> const Value& {
    if (name.empty() || is_digit(name)) {
      const size_t index =
          name.empty() ? next++ : static_cast<size_t>(std::stoi(std::string(name.substr(0, 6))));
      if (index < arguments.positional.size()) return arguments.positional[index];
    }
    const auto named = std::ranges::find(arguments.named, name, &std::pair<std::string_view, Value>::first);
    if (named == arguments.named.end()) fail("format: there is no argument for {}", Quoted{name});
    return named->second;
  };
  while (!text.empty()) {
    const size_t brace = std::min(text.find_first_of("{}"), text.size());
    out.add(text.substr(0, brace));
    text.remove_prefix(brace);
    if (text.starts_with("{{") || text.starts_with("}}")) {
      out.add(text.substr(0, 1));
      text.remove_prefix(2);
    } else if (!text.empty()) {
      const size_t end = text.find('}');
      if (text[0] == '}' || end == std::string_view::npos) fail("format: a brace has no partner");
      out.add(to_text(heap, argument(text.substr(1, end - 1))));
      text.remove_prefix(end + 1);
    }
  }
  return out.finish();
}

bool is_blank(std::string_view text) { return !text.empty() && strip(text, Side::kBoth).empty(); }

constexpr Method<std::string_view> kTextMethods[] = {
    {"strip", strip_method<Side::kBoth>},
    {"lstrip", strip_method<Side::kLeft>},
    {"rstrip", strip_method<Side::kRight>},
    {"lower", changed<to_lower>},
    {"upper", changed<to_upper>},
    {"title", changed<title>},
    {"capitalize", changed<capitalize>},
    {"startswith", startswith},
    {"endswith", endswith},
    {"split", split_method<split>},
    {"rsplit", split_method<split_right>},
    {"splitlines", splitlines},
    {"replace", replace_method},
    {"join", join_method},
    {"find", find_method},
    {"rfind", rfind_method},
    {"count", count_method},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"format", format_method},
    {"isdigit", asked<is_digit>},
    {"isalpha", asked<is_alpha>},
    {"isspace", asked<is_blank>},
    {"isupper", asked<is_upper>},
    {"islower", asked<is_lower>},
};

// --- mappings ---

Value get(Heap& heap, Mapping* mapping, const Arguments& arguments) {
  const Bound a(arguments, "get", {"key", "default"}, 1);
  heap.step(1 + mapping->entries.size() / 16);
  if (const Value* found = mapping->find(*a[0])) return *found;
  return a[1] ? *a[1] : None{};
}

Value items(Heap& heap, Mapping* mapping, const Arguments& arguments) {
  none(arguments, "items");
  std::vector<Value> pairs;
  for (const auto& [key, value] : mapping->entries) pairs.emplace_back(heap.make_list({key, value}, true));
  return heap.make_list(std::move(pairs));
}

Value keys(Heap& heap, Mapping* mapping, const Arguments& arguments) {
  none(arguments, "keys");
  return heap.make_list(elements(heap, mapping));
}

Value values(Heap& heap, Mapping* mapping, const Arguments& arguments) {
  none(arguments, "values");
  heap.claim(mapping->entries.size() * sizeof(Value));
  std::vector<Value> all;
  for (const auto& [key, value] : mapping->entries) all.push_back(value);
  return heap.make_list(std::move(all));
}

constexpr Method<Mapping*> kMappingMethods[] = {
    {"get", get}, {"items", items}, {"keys", keys}, {"values", values}};

// --- lists ---

Value append(Heap& heap, List* list, const Arguments& arguments) {
  const Bound a(arguments, "append", {"element"}, 1);
  if (list->tuple) fail("nothing can be appended to a tuple");
  heap.claim(sizeof(Value));
  list->items.push_back(*a[0]);
  return None{};
}

Value index(Heap& heap, List* list, const Arguments& arguments) {
  const Bound a(arguments, "index", {"element"}, 1);
  for (size_t i = 0; i < list->items.size(); ++i)
    if (equal(heap, list->items[i], *a[0])) return static_cast<int64_t>(i);
  fail("index: the list does not have the element");
}

Value count_elements(Heap& heap, List* list, const Arguments& arguments) {
  const Bound a(arguments, "count", {"element"}, 1);
  return static_cast<int64_t>(
      std::ranges::count_if(list->items, [&](const Value& element) { return equal(heap, element, *a[0]); }));
}

constexpr Method<List*> kListMethods[] = {{"append", append}, {"index", index}, {"count", count_elements}};

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  if (as<std::string_view>(object)) return find_method<std::string_view>(kTextMethods, name);
  if (as<List*>(object)) return find_method<List*>(kListMethods, name);
  const auto* mapping = as<Mapping*>(object);
  return mapping && !(*mapping)->is_namespace && find_method<Mapping*>(kMappingMethods, name);
}

Value call_method(Heap& heap, const Value& object, std::string_view name, const Arguments& arguments) {
  if (const auto* text = as<std::string_view>(object))
    return find_method<std::string_view>(kTextMethods, name)->call(heap, *text, arguments);
  if (const auto* list = as<List*>(object))
    return find_method<List*>(kListMethods, name)->call(heap, *list, arguments);
  return find_method<Mapping*>(kMappingMethods, name)->call(heap, std::get<Mapping*>(object), arguments);
}

}  // namespace gatewright::jinja

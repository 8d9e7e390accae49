#include "gatewright/text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"

namespace gatewright::jinja {
namespace {

constexpr uint64_t kBytesAStep = 64;  // that functions over texts look at for one step

/// Looking a key up goes through all of them.
constexpr uint64_t kKeysAStep = 16;

void add_repr(Heap& heap, const Value& value, TextBuilder& out);

void add_text_repr(std::string_view text, TextBuilder& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out.add({&quote, 1});
  for (const char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const std::string_view character(&c, 1);
    if (c == quote || c == '\\')
      out.add_made(fmt::format("\\{}", c), character);
    else if (c == '\n' || c == '\r' || c == '\t')
      out.add_made(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", character);
    else if (byte < 32 || byte == 127)
      out.add_made(fmt::format("\\x{:02x}", byte), character);
    else
      out.add(character);
  }
  out.add({&quote, 1});
}

void add_list(Heap& heap, const List& list, TextBuilder& out) {
  out.add(list.tuple ? "(" : "[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i) out.add(", ");
    add_repr(heap, list.items[i], out);
  }
  if (list.tuple && list.items.size() == 1) out.add(",");
  out.add(list.tuple ? ")" : "]");
}

void add_mapping(Heap& heap, const Mapping& mapping, TextBuilder& out) {
  out.add(mapping.is_namespace ? "<Namespace {" : "{");
  for (size_t i = 0; i < mapping.entries.size(); ++i) {
    if (i) out.add(", ");
    add_repr(heap, mapping.entries[i].first, out);
    out.add(": ");
    add_repr(heap, mapping.entries[i].second, out);
  }
  out.add(mapping.is_namespace ? "}>" : "}");
}

std::string simple_text(const Value& value) {
  if (const auto* boolean = as<bool>(value)) return *boolean ? "True" : "False";
  if (const auto* integer = as<int64_t>(value)) return fmt::format("{}", *integer);
  if (const auto* number = as<double>(value)) return float_text(*number);
  if (is_none(value)) return "None";
  if (const auto* function = as<Function*>(value))
    fail("{} is a function, which can't be written: was a call meant?", Quoted{(*function)->name});
  return "";
}

void add_repr(Heap& heap, const Value& value, TextBuilder& out) {
  const Heap::Deeper deeper(heap);
  heap.step();
  if (const auto* text = as<std::string_view>(value)) return add_text_repr(*text, out);
  if (const auto* list = as<List*>(value)) return add_list(heap, **list, out);
  if (const auto* mapping = as<Mapping*>(value)) return add_mapping(heap, **mapping, out);
  out.add(is_undefined(value) ? "Undefined" : simple_text(value));
}

bool equal_lists(Heap& heap, const List& a, const List& b) {
  if (a.tuple != b.tuple || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!equal(heap, a.items[i], b.items[i])) return false;
  return true;
}

bool equal_mappings(Heap& heap, const Mapping& a, const Mapping& b) {
  if (a.is_namespace || b.is_namespace) return &a == &b;
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    heap.step(1 + b.entries.size() / kKeysAStep);
    const Value* other = b.find(key);
    if (!other || !equal(heap, value, *other)) return false;
  }
  return true;
}

bool less_lists(Heap& heap, const List& a, const List& b) {
  const size_t both = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < both; ++i)
    if (!equal(heap, a.items[i], b.items[i])) return less(heap, a.items[i], b.items[i]);
  return a.items.size() < b.items.size();
}

bool same_key(const Value& a, const Value& b) {
  const auto *text = as<std::string_view>(a), *other = as<std::string_view>(b);
  if (text || other) return text && other && *text == *other;
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y) return *x == *y;
  const auto p = number_of(a), q = number_of(b);
  if (p || q) return p && q && *p == *q;
  return is_none(a) && is_none(b);
}

}  // namespace

const Value* Mapping::find(const Value& key) const {
  const auto it =
      std::ranges::find_if(entries, [&](const Entry& entry) { return same_key(entry.first, key); });
  return it == entries.end() ? nullptr : &it->second;
}

void Mapping::set(const Value& key, const Value& value) {
  const auto it =
      std::ranges::find_if(entries, [&](const Entry& entry) { return same_key(entry.first, key); });
  if (it == entries.end())
    entries.emplace_back(key, value);
  else
    it->second = value;
}

void Heap::step(uint64_t count) {
  if (count > limits_.steps - steps_) fail("it does not end within {} steps", limits_.steps);
  steps_ += count;
}

void Heap::claim(uint64_t bytes) {
  if (bytes > limits_.bytes - bytes_) fail("it makes texts and lists of more than {} bytes", limits_.bytes);
  bytes_ += bytes;
  step(bytes / kBytesAStep);
}

void Heap::claim_output(uint64_t bytes) {
  if (bytes > limits_.output_bytes - output_bytes_)
    fail("it writes more than {} bytes", limits_.output_bytes);
  output_bytes_ += bytes;
}

std::string_view Heap::keep(std::string text, std::string_view from) {
  claim(text.size());
  MarkedText kept;
  const bool in_place = text.size() == from.size();  // as where letters change their case
  append_made(kept, text, in_place ? std::string_view() : from);
  if (in_place) for_marks(from, [&](TextRange range) { add_mark(kept, range); });
  return adopt(std::move(kept));
}

std::string_view Heap::adopt(MarkedText text) {
  constexpr size_t kNode = 64;  // bytes of an entry of a map, at least
  claim(sizeof text.text + kNode * text.marks.size());
  const std::string_view kept = texts_.emplace_back(std::move(text.text));
  for (const TextRange range : text.marks)
    marked_.emplace(kept.data() + range.begin, kept.data() + range.end);
  return kept;
}

void Heap::mark(std::string_view text) {
  if (!text.empty()) marked_.emplace(text.data(), text.data() + text.size());
}

template <typename Part>
void Heap::for_marks(std::string_view text, const Part& part) const {
  if (marked_.empty() || text.empty()) return;
  const char *const begin = text.data(), *const end = begin + text.size();
  auto it = marked_.upper_bound(begin);
  if (it != marked_.begin() && std::less<>()(begin, std::prev(it)->second)) --it;
  for (; it != marked_.end() && std::less<>()(it->first, end); ++it) {
    const char* const first = std::max(it->first, begin, std::less<>());
    const char* const last = std::min(it->second, end, std::less<>());
    part(TextRange{static_cast<size_t>(first - begin), static_cast<size_t>(last - begin)});
  }
}

void Heap::add_mark(MarkedText& text, TextRange range) {
  if (!text.marks.empty() && text.marks.back().end == range.begin) {
    text.marks.back().end = range.end;
    return;
  }
  claim(sizeof range);
  text.marks.push_back(range);
}

void Heap::append(MarkedText& text, std::string_view part) {
  const size_t at = text.text.size();
  text.text += part;
  for_marks(part, [&](TextRange range) { add_mark(text, {at + range.begin, at + range.end}); });
}

void Heap::append_made(MarkedText& text, std::string_view made, std::string_view from) {
  const size_t at = text.text.size();
  text.text += made;
  bool marked = false;
  for_marks(from, [&](TextRange) { marked = true; });
  if (marked && !made.empty()) add_mark(text, {at, at + made.size()});
}

List* Heap::make_list(std::vector<Value> items, bool tuple) {
  claim(sizeof(List) + items.size() * sizeof(Value));
  return &lists_.emplace_back(List{std::move(items), tuple});
}

Mapping* Heap::make_mapping() {
  claim(sizeof(Mapping));
  return &mappings_.emplace_back();
}

Function* Heap::make_function(Function function) {
  claim(sizeof(Function));
  return &functions_.emplace_back(function);
}

Heap::Deeper::Deeper(Heap& heap) : heap_(heap) {
  if (heap.depth_ >= heap.limits_.depth) fail("it is nested more than {} deep", heap.limits_.depth);
  ++heap.depth_;
}

std::optional<int64_t> integer_of(const Value& value) {
  if (const auto* integer = as<int64_t>(value)) return *integer;
  if (const auto* boolean = as<bool>(value)) return *boolean;
  return std::nullopt;
}

std::optional<double> number_of(const Value& value) {
  if (const auto* number = as<double>(value)) return *number;
  const auto integer = integer_of(value);
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

std::string_view kind_name(const Value& value) {
  constexpr std::string_view names[] = {"undefined", "none", "boolean", "integer", "float",
                                        "text",      "list", "mapping", "function"};
  return names[value.index()];
}

void require_defined(const Value& value) {
  if (const auto* undefined = as<Undefined>(value)) fail("{} is undefined", Quoted{undefined->name});
}

bool is_true(const Value& value) {
  if (const auto* boolean = as<bool>(value)) return *boolean;
  if (const auto* integer = as<int64_t>(value)) return *integer != 0;
  if (const auto* number = as<double>(value)) return *number != 0;
  if (const auto* text = as<std::string_view>(value)) return !text->empty();
  if (const auto* list = as<List*>(value)) return !(*list)->items.empty();
  if (const auto* mapping = as<Mapping*>(value))
    return (*mapping)->is_namespace || !(*mapping)->entries.empty();
  return std::holds_alternative<Function*>(value);
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  const Heap::Deeper deeper(heap);
  heap.step();
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y) return *x == *y;
  const auto p = number_of(a), q = number_of(b);
  if (p && q) return *p == *q;
  if (a.index() != b.index()) return false;
  if (const auto* text = as<std::string_view>(a)) {
    heap.step(text->size() / kBytesAStep);
    return *text == std::get<std::string_view>(b);
  }
  if (const auto* list = as<List*>(a)) return equal_lists(heap, **list, *std::get<List*>(b));
  if (const auto* mapping = as<Mapping*>(a)) return equal_mappings(heap, **mapping, *std::get<Mapping*>(b));
  if (const auto* function = as<Function*>(a)) return *function == std::get<Function*>(b);
  return !p;  // none and none, undefined and undefined
}

bool less(Heap& heap, const Value& a, const Value& b) {
  const Heap::Deeper deeper(heap);
  heap.step();
  require_defined(a), require_defined(b);
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y) return *x < *y;
  const auto p = number_of(a), q = number_of(b);
  if (p && q) return *p < *q;
  const auto *text = as<std::string_view>(a), *other = as<std::string_view>(b);
  if (text && other) {
    heap.step(std::min(text->size(), other->size()) / kBytesAStep);
    return *text < *other;  // the order of UTF-8's bytes is that of code points
  }
  const auto *list = as<List*>(a), *other_list = as<List*>(b);
  if (list && other_list) return less_lists(heap, **list, **other_list);
  fail("{} and {} have no order", kind_name(a), kind_name(b));
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto exponent_of = [&](char* end) {
    const std::string_view text(buffer, static_cast<size_t>(end - buffer));
    return std::stoi(std::string(text.substr(text.find('e') + 1)));
  };
  char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const int exponent = exponent_of(end);
  if (exponent >= -4 && exponent < 16) {
    end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
    std::string text(buffer, end);
    return text.find('.') == std::string::npos ? text + ".0" : text;
  }
  return std::string(buffer, end);  // 1e+16, 1.5e-07: at least two digits of exponent, as in Python
}

std::string_view to_text(Heap& heap, const Value& value) {
  if (const auto* text = as<std::string_view>(value)) return *text;
  if (is_undefined(value)) return "";
  TextBuilder out(heap);
  add_repr(heap, value, out);
  return out.finish();
}

const std::vector<Value>& elements(Heap& heap, const Value& value) {
  static const std::vector<Value> nothing;
  if (is_undefined(value)) return nothing;
  if (const auto* list = as<List*>(value)) {
    heap.step((*list)->items.size());
    return (*list)->items;
  }
  std::vector<Value> found;
  if (const auto* text = as<std::string_view>(value)) {
    heap.step(text->size());
    heap.claim(count_characters(*text) * sizeof(Value));
    for (size_t i = 0; i < text->size(); i += character_size(*text, i))
      found.emplace_back(text->substr(i, character_size(*text, i)));
  } else if (const auto* mapping = as<Mapping*>(value); mapping && !(*mapping)->is_namespace) {
    heap.step((*mapping)->entries.size());
    for (const auto& [key, unused] : (*mapping)->entries) found.push_back(key);
  } else {
    fail("there are no elements in {}; a list, a mapping or a text was expected", kind_name(value));
  }
  return heap.make_list(std::move(found))->items;
}

void require_key(const Value& value) {
  if (!as<std::string_view>(value) && !number_of(value) && !is_none(value))
    fail("a key of a mapping is a text, a number, a boolean or none, not {}", kind_name(value));
}

bool contains(Heap& heap, const Value& container, const Value& x) {
  if (const auto* text = as<std::string_view>(container)) {
    const auto* part = as<std::string_view>(x);
    if (!part) fail("only a text can be in a text, not {}", kind_name(x));
    return find_text(heap, *text, *part) != std::string_view::npos;
  }
  if (const auto* mapping = as<Mapping*>(container); mapping && !(*mapping)->is_namespace) {
    heap.step(1 + (*mapping)->entries.size() / kKeysAStep);
    return (*mapping)->find(x);
  }
  for (const Value& element : elements(heap, container))
    if (equal(heap, element, x)) return true;
  return false;
}

}  // namespace gatewright::jinja

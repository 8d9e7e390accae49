#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/text/jinja/filters.h"
#include "gatewright/text/utf8.h"

namespace gatewright::jinja {
namespace {

class Writer {
 public:
  Writer(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style), out_(heap) {}

  std::string_view write(const Value& value) {
    add(value, 0);
    return out_.finish();
  }

 private:
  void add(const Value& value, int level) {
    const Heap::Deeper deeper(heap_);
    heap_.step();
    if (const auto* text = as<std::string_view>(value)) return add_text(*text);
    if (const auto* list = as<List*>(value)) return add_list(**list, level);
    if (const auto* mapping = as<Mapping*>(value); mapping && !(*mapping)->is_namespace)
      return add_mapping(**mapping, level);
    if (const auto* boolean = as<bool>(value)) return out_.add(*boolean ? "true" : "false");
    if (const auto* integer = as<int64_t>(value)) return out_.add(fmt::format("{}", *integer));
    if (const auto* number = as<double>(value)) return out_.add(number_text(*number));
    if (!is_none(value)) fail("{} can't be written as JSON", kind_name(value));
    out_.add("null");
  }

  static std::string number_text(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return float_text(number);
  }

  void add_text(std::string_view text) {
    out_.add("\"");
    for (size_t i = 0; i < text.size();) {
      const Utf8Character c = decode_utf8(text.data() + i, text.data() + text.size());
      const std::string_view bytes = text.substr(i, c.size);
      i += c.size;
      if (c.code == '"' || c.code == '\\')
        out_.add_made(fmt::format("\\{}", bytes), bytes);
      else if (c.code < 32)
        out_.add_made(control(static_cast<char>(c.code)), bytes);
      else if (style_.ensure_ascii && c.code > 126 && c.code != kInvalidUtf8)
        out_.add_made(escape(c.code), bytes);
      else
        out_.add(bytes);
    }
    out_.add("\"");
  }

  static std::string control(char c) {
    constexpr std::string_view known = "\b\f\n\r\t", letters = "bfnrt";
    const size_t at = known.find(c);
    return at == std::string_view::npos ? fmt::format("\\u{:04x}", c) : fmt::format("\\{}", letters[at]);
  }

  static std::string escape(uint32_t code) {
    if (code == 127) return "\x7f";
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    const uint32_t rest = code - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
  }

  void break_line(int level) {
    if (!style_.indent) return;
    out_.add("\n");
    for (int i = 0; i < level; ++i) out_.add(*style_.indent);
  }

  void add_list(const List& list, int level) {
    if (list.items.empty()) return out_.add("[]");
    out_.add("[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) out_.add(style_.between);
      break_line(level + 1);
      add(list.items[i], level + 1);
    }
    break_line(level);
    out_.add("]");
  }

  /// A text; of other keys, what they are written as makes one.
  void add_key(const Value& key, int level) {
    if (const auto* text = as<std::string_view>(key)) return add_text(*text);
    out_.add("\"");
    add(key, level);
    out_.add("\"");
  }

  void add_mapping(const Mapping& mapping, int level) {
    if (mapping.entries.empty()) return out_.add("{}");
    heap_.claim(mapping.entries.size() * sizeof mapping.entries[0]);
    auto entries = mapping.entries;
    if (style_.sort_keys)
      std::ranges::stable_sort(entries,
                               [&](const auto& a, const auto& b) { return less(heap_, a.first, b.first); });
    out_.add("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i) out_.add(style_.between);
      break_line(level + 1);
      add_key(entries[i].first, level);
      out_.add(style_.colon);
      add(entries[i].second, level + 1);
    }
    break_line(level);
    out_.add("}");
  }

  Heap& heap_;
  const JsonStyle& style_;
  TextBuilder out_;
};

}  // namespace

std::string_view json_text(Heap& heap, const Value& value, const JsonStyle& style) {
  return Writer(heap, style).write(value);
}

}  // namespace gatewright::jinja

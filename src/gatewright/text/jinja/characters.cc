#include "gatewright/text/jinja/characters.h"

#include <algorithm>
#include <clocale>
#include <cwctype>

#include "gatewright/base/error.h"
#include "gatewright/text/unicode_classes.h"
#include "gatewright/text/utf8.h"

namespace gatewright::jinja {
namespace {

Utf8Character character(std::string_view text, size_t at) {
  return decode_utf8(text.data() + at, text.data() + text.size());
}

/// Where the last character of text[0, end) begins.
size_t last_character(std::string_view text, size_t end) {
  for (size_t size = 1; size <= std::min<size_t>(4, end); ++size) {
    const Utf8Character c = character(text.substr(0, end), end - size);
    if (c.code != kInvalidUtf8 && c.size == size) return end - size;
  }
  return end - 1;
}

template <typename Match>
std::string_view strip_where(std::string_view text, Side side, const Match& match) {
  size_t begin = 0, end = text.size();
  while (side != Side::kRight && begin < end && match(character(text, begin), begin))
    begin += character(text, begin).size;
  while (side != Side::kLeft && begin < end) {
    const size_t last = last_character(text, end);
    if (last < begin || !match(character(text.substr(0, end), last), last)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

locale_t unicode_locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

uint32_t upper(uint32_t code) {
  if (code < 128) return code >= 'a' && code <= 'z' ? code - 32 : code;
  return unicode_locale() ? static_cast<uint32_t>(towupper_l(static_cast<wint_t>(code), unicode_locale()))
                          : code;
}

uint32_t lower(uint32_t code) {
  if (code < 128) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  return unicode_locale() ? static_cast<uint32_t>(towlower_l(static_cast<wint_t>(code), unicode_locale()))
                          : code;
}

bool has_case(uint32_t code) { return upper(code) != code || lower(code) != code; }

bool is_letter(uint32_t code) {
  return character_class(character_class_table(), code) == CharacterClass::kLetter;
}

/// `map` is called with each code point and whether the one before it was a letter.
template <typename Map>
std::string mapped(std::string_view text, const Map& map) {
  std::string out;
  out.reserve(text.size());
  bool after_letter = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = character(text, i);
    if (c.code == kInvalidUtf8)
      out += text[i];
    else
      append_utf8(map(c.code, after_letter), out);
    after_letter = c.code != kInvalidUtf8 && is_letter(c.code);
    i += c.size;
  }
  return out;
}

template <typename Wanted>
bool all_characters(std::string_view text, const Wanted& wanted) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = character(text, i);
    if (c.code == kInvalidUtf8 || !wanted(c.code)) return false;
    i += c.size;
  }
  return !text.empty();
}

/// At least one character with case, and all of those as wanted.
template <typename Map>
bool has_only_case(std::string_view text, const Map& map) {
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = character(text, i);
    if (c.code != kInvalidUtf8 && has_case(c.code)) {
      if (map(c.code) != c.code) return false;
      found = true;
    }
    i += c.size;
  }
  return found;
}

bool is_space_at(std::string_view text, size_t at) {
  const uint32_t code = character(text, at).code;
  return code != kInvalidUtf8 && is_space(code);
}

/// The search may compare as many bytes as the product of both sizes.
void count_search(Heap& heap, std::string_view text, std::string_view part) {
  heap.step((text.size() / 64 + 1) * (part.size() / 64 + 1));
}

std::vector<std::string_view> split_at_spaces(Heap& heap, std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    heap.claim(sizeof(Value));
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size() && !is_space_at(text, end)) end += character_size(text, end);
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> split_right_at_spaces(Heap& heap, std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::kRight);
  while (!text.empty()) {
    heap.claim(sizeof(Value));
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0 && !is_space_at(text, last_character(text, begin))) begin = last_character(text, begin);
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), Side::kRight);
  }
  std::ranges::reverse(parts);
  return parts;
}

}  // namespace

size_t character_size(std::string_view text, size_t at) { return character(text, at).size; }

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += character_size(text, i)) ++count;
  return count;
}

size_t byte_offset(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) at += character_size(text, at), --index;
  return at;
}

bool is_space(uint32_t code) {
  return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

std::string_view strip(std::string_view text, Side side) {
  return strip_where(text, side,
                     [](Utf8Character c, size_t) { return c.code != kInvalidUtf8 && is_space(c.code); });
}

std::string_view strip(Heap& heap, std::string_view text, Side side, std::string_view characters) {
  return strip_where(text, side, [&](Utf8Character c, size_t at) {
    heap.step(1 + characters.size() / 64);
    return characters.find(text.substr(at, c.size)) != std::string_view::npos;
  });
}

std::string to_upper(std::string_view text) {
  return mapped(text, [](uint32_t code, bool) { return upper(code); });
}

std::string to_lower(std::string_view text) {
  return mapped(text, [](uint32_t code, bool) { return lower(code); });
}

std::string capitalize(std::string_view text) {
  const size_t first = text.empty() ? 0 : character_size(text, 0);
  return to_upper(text.substr(0, first)) + to_lower(text.substr(first));
}

std::string title(std::string_view text) {
  return mapped(text,
                [](uint32_t code, bool after_letter) { return after_letter ? lower(code) : upper(code); });
}

bool is_upper(std::string_view text) { return has_only_case(text, upper); }
bool is_lower(std::string_view text) { return has_only_case(text, lower); }
bool is_alpha(std::string_view text) { return all_characters(text, is_letter); }
bool is_digit(std::string_view text) {
  return all_characters(text, [](uint32_t code) { return code >= '0' && code <= '9'; });
}

size_t find_text(Heap& heap, std::string_view text, std::string_view part, size_t from) {
  count_search(heap, text.substr(std::min(from, text.size())), part);
  return text.find(part, from);
}

size_t rfind_text(Heap& heap, std::string_view text, std::string_view part) {
  count_search(heap, text, part);
  return text.rfind(part);
}

std::vector<std::string_view> split(Heap& heap, std::string_view text, const std::string_view* separator,
                                    int64_t most) {
  heap.claim(text.size());
  if (!separator) return split_at_spaces(heap, text, most);
  require(!separator->empty(), "a text can't be split at an empty separator");
  count_search(heap, text, *separator);
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (; most < 0 || static_cast<int64_t>(parts.size()) < most;) {
    const size_t at = text.find(*separator, begin);
    if (at == std::string_view::npos) break;
    heap.claim(sizeof(Value));
    parts.push_back(text.substr(begin, at - begin));
    begin = at + separator->size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> split_right(Heap& heap, std::string_view text,
                                          const std::string_view* separator, int64_t most) {
  heap.claim(text.size());
  if (!separator) return split_right_at_spaces(heap, text, most);
  require(!separator->empty(), "a text can't be split at an empty separator");
  count_search(heap, text, *separator);
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = text.rfind(*separator);
    if (at == std::string_view::npos) break;
    heap.claim(sizeof(Value));
    parts.push_back(text.substr(at + separator->size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_lines(Heap& heap, std::string_view text) {
  heap.claim(text.size());
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    heap.claim(sizeof(Value));
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + (text.substr(end).starts_with("\r\n") ? 2 : 1)));
  }
  return lines;
}

std::string_view replace(Heap& heap, std::string_view text, std::string_view old, std::string_view with,
                         int64_t most) {
  count_search(heap, text, old);
  TextBuilder out(heap);
  size_t begin = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    // An empty text is found before each character and at the end.
    const size_t next = !old.empty()          ? text.find(old, begin)
                        : done == 0           ? 0
                        : begin < text.size() ? begin + character_size(text, begin)
                                              : std::string_view::npos;
    if (next == std::string_view::npos) break;
    heap.step();
    out.add(text.substr(begin, next - begin));
    out.add(with);
    begin = next + old.size();
  }
  out.add(text.substr(begin));
  return out.finish();
}

}  // namespace gatewright::jinja

#include "gatewright/text/character_map.h"

#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

constexpr size_t kLongestMapped = 256;  // bytes; Unicode's own have at most 33

// A unit of the trie holds a label, whether a leaf follows, and the distance to its children.
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label_of(uint32_t unit) { return unit & ((1U << 31) | 0xFF); }
uint32_t value_of(uint32_t unit) { return unit & ((1U << 31) - 1); }

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, std::string_view what) {
  if (bytes.empty()) return;
  uint32_t size = 0;
  require(bytes.size() > sizeof size, "{}: the character map of {} bytes is cut off", what, bytes.size());
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes.remove_prefix(sizeof size);
  require(size % 4 == 0 && size >= 4 && size < bytes.size(),
          "{}: the character map says that its trie has {} bytes, of {}", what, size, bytes.size());
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data(), size);
  replacements_ = bytes.substr(size);
  require(replacements_.back() == '\0', "{}: the last replacement of the character map has no end", what);
}

CharacterMap::Match CharacterMap::longest(std::string_view text) const {
  Match match;
  uint32_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) break;
    const bool leaf = has_leaf(units_[node]);
    node ^= offset_of(units_[node]);
    if (!leaf) continue;
    if (node >= units_.size()) break;
    const uint32_t place = value_of(units_[node]);
    const bool ends = place < replacements_.size() &&
                      strnlen(replacements_.c_str() + place, kLongestMapped) < kLongestMapped;
    if (ends) match = {i + 1, place};
  }
  return match;
}

void CharacterMap::append(std::string_view text, std::string& out) const {
  if (units_.empty()) return static_cast<void>(out.append(text));
  const char* const end = text.data() + text.size();
  for (size_t at = 0; at < text.size();) {
    const Match match = longest(text.substr(at));
    if (match.size > 0) {
      out.append(replacements_.c_str() + match.place);
      at += match.size;
      continue;
    }
    const size_t size = decode_utf8(text.data() + at, end).size;
    out.append(text.substr(at, size));
    at += size;
  }
}

}  // namespace gatewright

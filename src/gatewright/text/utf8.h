// UTF-8, one character at a time, over text that may hold any bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gatewright {

/// What decode_utf8 gives for a byte that begins no valid character.
inline constexpr uint32_t kInvalidUtf8 = 0xFFFFFFFF;

struct Utf8Character {
  uint32_t code;  // code point, or kInvalidUtf8
  uint32_t size;  // bytes, 1 when invalid
};

/// The character at `at` (at < end). Overlong forms, surrogates, values over U+10FFFF and cut characters are
/// invalid, byte by byte.
inline Utf8Character decode_utf8(const char* at, const char* end) {
  const auto byte = [at](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(at[i])); };
  const auto continues = [&byte](int i) { return (byte(i) & 0xC0) == 0x80; };
  constexpr Utf8Character invalid{kInvalidUtf8, 1};
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const auto left = end - at;
  if (first < 0xC2 || first > 0xF4) return invalid;
  if (first < 0xE0) {
    if (left < 2 || !continues(1)) return invalid;
    return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  }
  if (first < 0xF0) {
    if (left < 3 || !continues(1) || !continues(2)) return invalid;
    const uint32_t code = (first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return invalid;
    return {code, 3};
  }
  if (left < 4 || !continues(1) || !continues(2) || !continues(3)) return invalid;
  const uint32_t code =
      (first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  if (code < 0x10000 || code > 0x10FFFF) return invalid;
  return {code, 4};
}

inline bool is_utf8(std::string_view text) {
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    const Utf8Character c = decode_utf8(at, end);
    if (c.code == kInvalidUtf8) return false;
    at += c.size;
  }
  return true;
}

/// Appends the code point (no surrogate, at most U+10FFFF).
inline void append_utf8(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

}  // namespace gatewright

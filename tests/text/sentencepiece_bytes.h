// SentencePiece models made by hand, as the bytes of a protocol buffer.
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace gatewright {

inline std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
inline std::string field(uint32_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
inline std::string varint_field(uint32_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}
inline std::string float_field(uint32_t number, float value) {
  std::string bytes = varint(number << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFF);
  return bytes;
}
inline std::string piece(const std::string& text, float score, uint64_t type = 1) {
  return field(1, field(1, text) + float_field(2, score) + varint_field(3, type));
}

/// 0 <unk>, 1 <s>, 2 </s>, 3 _a, 4 _ab, 5 ab, 6 a, 7 b, 8 _, 9 _aba.
inline std::string small_sentencepiece_model(uint64_t model_type) {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581a", -2) +
         piece("\u2581ab", -3) + piece("ab", -4) + piece("a", -5) + piece("b", -3) + piece("\u2581", -6) +
         piece("\u2581aba", -6) + field(2, varint_field(3, model_type)) + field(3, varint_field(3, 1));
}

}  // namespace gatewright

// What the pre-tokenisers' patterns ask of a character: letter (\p{L}), number (\p{N}), white space (\s) or
// none of them. The tables are our own (Unicode 16), so that the same text gives the same tokens on every
// machine.
#pragma once

#include <cstdint>

#include "gatewright/text/utf8.h"

namespace gatewright {

struct CodeRange {
  uint32_t first, last;
};

enum class CharacterClass : uint8_t { kOther, kLetter, kNumber, kSpace };

/// Classes of all code points in pages of 256, equal pages stored once.
struct CharacterClassTable {
  static constexpr uint32_t kCodePoints = 0x110000;
  CharacterClassTable();

  uint8_t page[kCodePoints / 256];
  CharacterClass classes[256][256];  // [page][low byte]
};

const CharacterClassTable& character_class_table();

/// kInvalidUtf8 is kOther.
inline CharacterClass character_class(const CharacterClassTable& table, uint32_t code) {
  if (code >= CharacterClassTable::kCodePoints) return CharacterClass::kOther;
  return table.classes[table.page[code >> 8]][code & 0xFF];
}

}  // namespace gatewright

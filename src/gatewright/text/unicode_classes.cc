#include "gatewright/text/unicode_classes.h"

#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

namespace gatewright {
namespace {

#include "gatewright/text/unicode_ranges.inc"

// The property White_Space.
constexpr CodeRange kSpaces[] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                 {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                 {0x205F, 0x205F}, {0x3000, 0x3000}};

template <size_t N>
void mark(const CodeRange (&ranges)[N], CharacterClass value, std::vector<CharacterClass>& classes) {
  for (const CodeRange& range : ranges)
    std::fill(classes.begin() + range.first, classes.begin() + range.last + 1, value);
}

}  // namespace

CharacterClassTable::CharacterClassTable() {
  std::vector<CharacterClass> all(kCodePoints, CharacterClass::kOther);
  mark(kLetters, CharacterClass::kLetter, all);
  mark(kNumbers, CharacterClass::kNumber, all);
  mark(kSpaces, CharacterClass::kSpace, all);
  uint32_t pages = 0;
  for (uint32_t p = 0; p < std::size(page); ++p) {
    const CharacterClass* const wanted = all.data() + p * 256;
    uint32_t found = 0;
    while (found < pages && std::memcmp(classes[found], wanted, 256) != 0) ++found;
    if (found == pages) std::memcpy(classes[pages++], wanted, 256);
    page[p] = static_cast<uint8_t>(found);
  }
}

const CharacterClassTable& character_class_table() {
  static const std::unique_ptr<const CharacterClassTable> table = std::make_unique<CharacterClassTable>();
  return *table;
}

}  // namespace gatewright

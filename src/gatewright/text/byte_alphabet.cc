#include "gatewright/text/byte_alphabet.h"

#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;
constexpr uint32_t kStandIns = 68;

struct Alphabet {
  std::array<uint16_t, 256> character{};           // of each byte
  std::array<uint8_t, kStandIns> stand_in_byte{};  // of the characters from U+0100 on
  std::array<uint8_t, 256> order{};

  Alphabet() {
    uint32_t stand_ins = 0, visible = 0;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      if (stands_for_itself(byte)) {
        character[byte] = static_cast<uint16_t>(byte);
        order[visible++] = static_cast<uint8_t>(byte);
      } else {
        character[byte] = static_cast<uint16_t>(kFirstStandIn + stand_ins);
        stand_in_byte[stand_ins++] = static_cast<uint8_t>(byte);
      }
    }
    for (const uint8_t byte : stand_in_byte) order[visible++] = byte;
  }

  static bool stands_for_itself(uint32_t byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<uint8_t, 256>& byte_alphabet_order() { return alphabet().order; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string characters;
  characters.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(alphabet().character[static_cast<uint8_t>(byte)], characters);
  return characters;
}

std::optional<std::string> from_byte_alphabet(std::string_view characters) {
  std::string bytes;
  bytes.reserve(characters.size());
  const char* const end = characters.data() + characters.size();
  for (const char* at = characters.data(); at < end;) {
    const Utf8Character c = decode_utf8(at, end);
    if (c.code < 256 && Alphabet::stands_for_itself(c.code))
      bytes.push_back(static_cast<char>(c.code));
    else if (c.code >= kFirstStandIn && c.code < kFirstStandIn + kStandIns)
      bytes.push_back(static_cast<char>(alphabet().stand_in_byte[c.code - kFirstStandIn]));
    else
      return std::nullopt;
    at += c.size;
  }
  return bytes;
}

}  // namespace gatewright

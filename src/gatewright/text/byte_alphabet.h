// The byte-level alphabet of GPT-2 (Radford et al. 2019): every byte is written as one printable character,
// so that any bytes can stand in a JSON vocabulary. Bytes 33..126, 161..172 and 174..255 stand for
// themselves; the other 68, in order, become U+0100, U+0101, ...
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gatewright {

/// The bytes in the order of their characters: how GPT-2 and Hugging Face number the 256 byte tokens.
const std::array<uint8_t, 256>& byte_alphabet_order();

/// The characters (UTF-8) that stand for these bytes.
std::string to_byte_alphabet(std::string_view bytes);

/// The bytes that these characters stand for; nothing when a character is none of the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view characters);

}  // namespace gatewright

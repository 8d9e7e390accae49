// Base64 (RFC 4648), as tokenizer.json holds character maps.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gatewright {

/// Nothing when the text is not base64 with its padding.
std::optional<std::string> from_base64(std::string_view text);
std::string to_base64(std::string_view bytes);

}  // namespace gatewright

// gzip and zstd to bytes.
#pragma once

#include <string>
#include <string_view>

namespace gatewright {

enum class Compression { kNone, kGzip, kZstd };

/// By the first bytes.
Compression detect_compression(std::string_view bytes);
/// The whole content (all members or frames). Damaged or truncated input and more than `limit` bytes of
/// output are errors that name `what`. Uncompressed input is returned as it is.
std::string decompress(std::string_view bytes, std::string_view what, size_t limit);

}  // namespace gatewright

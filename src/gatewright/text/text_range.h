// Parts of a text.
#pragma once

#include <cstddef>

namespace gatewright {

/// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0, end = 0;

  bool operator==(const TextRange&) const = default;
};

}  // namespace gatewright

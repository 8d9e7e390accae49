// Names by patterns.
#pragma once

#include <string_view>

namespace gatewright {

/// Whether the whole text is the pattern, in which each * stands for any characters, none included.
bool fits_pattern(std::string_view text, std::string_view pattern);

}  // namespace gatewright

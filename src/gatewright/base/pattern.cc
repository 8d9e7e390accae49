#include "gatewright/base/pattern.h"

namespace gatewright {

bool fits_pattern(std::string_view text, std::string_view pattern) {
  // After a mismatch the last * takes one character more.
  size_t at = 0, p = 0, star = std::string_view::npos, taken = 0;
  while (at < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = at;
    } else if (p < pattern.size() && pattern[p] == text[at]) {
      ++p, ++at;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      at = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace gatewright

#include "gatewright/base/words.h"

#include <fmt/format.h>

#include <algorithm>

namespace gatewright {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string first_of(std::span<const std::string> problems, size_t most) {
  const size_t shown = std::min(problems.size(), most);
  const std::string text = fmt::format("{}", fmt::join(problems.first(shown), "; "));
  return shown < problems.size() ? text + fmt::format("; and {} more", problems.size() - shown) : text;
}

}  // namespace gatewright

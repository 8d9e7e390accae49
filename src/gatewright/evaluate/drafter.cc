#include "gatewright/evaluate/drafter.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {

LookupDrafter::LookupDrafter(int64_t longest) : longest_(longest) {
  require(longest >= 1, "a lookup compares at least one token, got {}", longest);
}

std::vector<int32_t> LookupDrafter::draft(std::span<const int32_t> text, int64_t most) {
  size_t best_length = 0, best_end = 0;  // of the run, and the place after it
  const auto limit = static_cast<size_t>(longest_);
  for (size_t end = text.size() - std::min<size_t>(1, text.size()); end > 0; --end) {
    size_t length = 0;
    while (length < std::min(limit, end) && text[end - 1 - length] == text[text.size() - 1 - length])
      ++length;
    if (length <= best_length) continue;
    best_length = length;
    best_end = end;
    if (length == limit) break;
  }
  if (best_length == 0) return {};
  const auto count = std::min(static_cast<size_t>(std::max<int64_t>(most, 0)), text.size() - best_end);
  const auto begin = text.begin() + static_cast<std::ptrdiff_t>(best_end);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

std::vector<int32_t> ModelDrafter::draft(std::span<const int32_t> text, int64_t most) {
  if (most <= 0) return {};
  return generate(model_, text, {.max_tokens = most, .sampling = {.temperature = 0}});
}

}  // namespace gatewright

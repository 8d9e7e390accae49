// Whole numbers, ranges and lists of them as people write them on a command line: "3", "0-5", "0,3,8-15".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace gatewright {

/// Digits and nothing else; nothing when the text is something else or does not fit.
std::optional<int64_t> parse_number(std::string_view text);

struct NumberRange {
  int64_t first = 0, last = 0;  // both included
};
/// "3" or "0-5", the first at most the last.
std::optional<NumberRange> parse_number_range(std::string_view text);

/// Numbers and ranges with commas between them, in the order given. Nothing when a part is neither, the text
/// is empty, or there are more than `most` numbers.
std::optional<std::vector<int64_t>> parse_number_list(std::string_view text, size_t most = 1 << 20);

}  // namespace gatewright

#include "gatewright/base/number_list.h"

#include <algorithm>
#include <charconv>

namespace gatewright {

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return error == std::errc() && end == last && text[0] != '-' ? std::optional(value) : std::nullopt;
}

std::optional<NumberRange> parse_number_range(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = parse_number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1));
  return first && last && *first <= *last ? std::optional(NumberRange{*first, *last}) : std::nullopt;
}

std::optional<std::vector<int64_t>> parse_number_list(std::string_view text, size_t most) {
  std::vector<int64_t> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto range = parse_number_range(text.substr(begin, end - begin));
    if (!range || static_cast<uint64_t>(range->last - range->first) >= most - numbers.size())
      return std::nullopt;
    for (int64_t n = range->first; n <= range->last; ++n) numbers.push_back(n);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace gatewright

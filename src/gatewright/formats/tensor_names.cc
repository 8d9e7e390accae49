#include "gatewright/formats/tensor_names.h"

#include <algorithm>

#include "gatewright/base/number_list.h"

namespace gatewright {

std::optional<int64_t> number_after(std::string_view name, std::string_view mark) {
  const size_t at = name.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  name.remove_prefix(at + mark.size());
  return parse_number(name.substr(0, std::min(name.find_first_not_of("0123456789"), name.size())));
}

std::optional<int64_t> gguf_layer(std::string_view name) {
  constexpr std::string_view kMark = "blk.";
  if (!name.starts_with(kMark)) return std::nullopt;
  const size_t dot = name.find('.', kMark.size());
  if (dot == std::string_view::npos) return std::nullopt;
  const auto layer = parse_number(name.substr(kMark.size(), dot - kMark.size()));
  return layer && *layer <= INT32_MAX ? layer : std::nullopt;
}

}  // namespace gatewright

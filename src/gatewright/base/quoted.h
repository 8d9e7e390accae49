// Names, tokens and other bytes from outside, as errors show them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace gatewright {

/// Formats as "the bytes" with what is not printable ASCII as \xNN, cut when long. Costs nothing until then.
struct Quoted {
  std::string_view bytes;
};

/// The whole text for a terminal: what is not printable ASCII as \xNN.
std::string printable(std::string_view bytes);

}  // namespace gatewright

template <>
struct fmt::formatter<gatewright::Quoted> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  fmt::format_context::iterator format(gatewright::Quoted quoted, fmt::format_context& context) const;
};

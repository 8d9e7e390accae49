#include "gatewright/base/quoted.h"

fmt::format_context::iterator fmt::formatter<gatewright::Quoted>::format(gatewright::Quoted quoted,
                                                                         fmt::format_context& context) const {
  constexpr size_t kShown = 40;
  auto out = fmt::format_to(context.out(), "\"");
  for (const char c : quoted.bytes.substr(0, kShown)) {
    if (c >= 32 && c < 127)
      *out++ = c;
    else
      out = fmt::format_to(out, "\\x{:02X}", static_cast<unsigned char>(c));
  }
  return fmt::format_to(out, "{}", quoted.bytes.size() > kShown ? "...\"" : "\"");
}

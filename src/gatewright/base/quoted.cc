#include "gatewright/base/quoted.h"

#include <iterator>

namespace gatewright {
namespace {

template <typename Out>
Out append_printable(Out out, std::string_view bytes) {
  for (const char c : bytes) {
    if (c >= 32 && c < 127)
      *out++ = c;
    else
      out = fmt::format_to(out, "\\x{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace

std::string printable(std::string_view bytes) {
  std::string text;
  append_printable(std::back_inserter(text), bytes);
  return text;
}

}  // namespace gatewright

fmt::format_context::iterator fmt::formatter<gatewright::Quoted>::format(gatewright::Quoted quoted,
                                                                         fmt::format_context& context) const {
  constexpr size_t kShown = 40;
  auto out =
      gatewright::append_printable(fmt::format_to(context.out(), "\""), quoted.bytes.substr(0, kShown));
  return fmt::format_to(out, "{}", quoted.bytes.size() > kShown ? "...\"" : "\"");
}

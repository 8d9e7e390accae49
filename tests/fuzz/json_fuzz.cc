// Any text is refused with an Error or is JSON that is written and read back the same, at most as deep as
// allowed. The first byte is the depth.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"

namespace {

using gatewright::Json;

int depth_of(const Json& json) {
  int deepest = 0;
  if (!json.is_structured()) return 0;
  for (const Json& inner : json) deepest = std::max(deepest, depth_of(inner));
  return deepest + 1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int depth = data[0] % 32;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const Json json = gatewright::parse_json(text, "the input", depth);
    if (depth_of(json) > depth) std::abort();
    if (gatewright::parse_json(json.dump(), "what we wrote", depth) != json) std::abort();
  } catch (const gatewright::Error& error) {
    const std::string_view message = error.what();
    if (!message.starts_with("the input") || message.size() > 300) std::abort();
    if (std::ranges::any_of(message, [](char c) { return c < 32 || c > 126; })) std::abort();
  }
  return 0;
}

// GGUF files in memory, read or refused.
#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <span>
#include <string>

#include "gatewright/formats/gguf.h"
#include "tests/formats/gguf_maker.h"
#include "tests/testing.h"

namespace gatewright {

inline Gguf parse(const std::string& file) { return parse_gguf(bytes_of(file), "model.gguf"); }

inline std::string refusal(const std::string& file) {
  std::string message = error_of([&] { parse(file); });
  EXPECT_THAT(message, testing::HasSubstr("model.gguf"));
  EXPECT_LT(message.size(), 400u) << message;
  for (const char c : message) EXPECT_TRUE(c >= 32 && c < 127) << message;
  return message;
}

/// What is said of the small file after a change.
inline std::string refusal(const std::function<void(MadeGguf&)>& change) {
  MadeGguf made = small_gguf();
  change(made);
  return refusal(made.bytes());
}

}  // namespace gatewright

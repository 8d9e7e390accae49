// Rendering a template in one call, for tests of its language.
#pragma once

#include <gmock/gmock.h>

#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/chat_template.h"
#include "tests/testing.h"

namespace gatewright {

/// Renders with these variables; errors name "t".
inline std::string rendered(std::string_view source, const OrderedJson& variables = OrderedJson::object(),
                            const jinja::Limits& limits = {}) {
  return ChatTemplate(source, "t").render(OrderedJson::array(), {.more = variables}, limits).text;
}

struct Rendering {
  std::string_view source, expected;
};

/// What Python's Jinja 3.1 gives for each.
inline void expect_renderings(const std::vector<Rendering>& cases,
                              const OrderedJson& variables = OrderedJson::object()) {
  for (const auto& [source, expected] : cases) {
    try {
      EXPECT_EQ(rendered(source, variables), expected) << source;
    } catch (const Error& error) {
      ADD_FAILURE() << source << "\n" << error.what();
    }
  }
}

/// A part of the error that each ends with.
inline void expect_errors(const std::vector<Rendering>& cases,
                          const OrderedJson& variables = OrderedJson::object()) {
  for (const auto& [source, message] : cases)
    EXPECT_THAT(error_of([&, s = source] { rendered(s, variables); }),
                testing::HasSubstr(std::string(message)))
        << source;
}

}  // namespace gatewright

// Small things about words that several rooms say or compare.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace gatewright {

/// The ASCII letters A to Z as a to z, every other byte as it is.
std::string lower_case(std::string_view text);

/// "a; b; and 3 more": the first few of a list of problems.
std::string first_of(std::span<const std::string> problems, size_t most);

}  // namespace gatewright

// JSON from outside: bounded depth, and errors that name the file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace gatewright {

using Json = nlohmann::json;
/// Keeps keys in the order they were written: for files of ours that people read.
using OrderedJson = nlohmann::ordered_json;

/// Parses a whole document, at most `max_depth` arrays and objects deep. `what` names it in errors.
Json parse_json(std::string_view text, std::string_view what, int max_depth = 64);

/// Ends with the error that parse_json gives, for readers with a parser of their own.
[[noreturn]] void fail_not_json(std::string_view what, const Json::exception& problem);

}  // namespace gatewright

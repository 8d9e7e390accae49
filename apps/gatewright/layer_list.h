// --layers: the layers of a model that a verb is about.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gatewright::command {

/// "0,3,8-15" as the numbers of layers; none for "". Fails (UsageError) on anything else.
std::vector<int64_t> parse_layers(const std::string& given);
/// The same, which must all be layers of the model.
std::vector<int64_t> parse_layers(const std::string& given, int64_t num_layers);

}  // namespace gatewright::command

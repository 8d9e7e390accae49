#include "layer_list.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/number_list.h"
#include "gatewright/base/quoted.h"

namespace gatewright::command {

std::vector<int64_t> parse_layers(const std::string& given) {
  constexpr size_t kMostLayers = 65536;
  if (given.empty()) return {};
  const auto layers = parse_number_list(given, kMostLayers);
  if (!layers)
    fail_usage("--layers {}: layers with commas between them were expected, such as 0,3,8-15", Quoted{given});
  return *layers;
}

std::vector<int64_t> parse_layers(const std::string& given, int64_t num_layers) {
  std::vector<int64_t> layers = parse_layers(given);
  for (const int64_t layer : layers) {
    if (layer >= num_layers)
      fail_usage("--layers {}: the model has layers 0 to {}", Quoted{given}, num_layers - 1);
  }
  return layers;
}

}  // namespace gatewright::command

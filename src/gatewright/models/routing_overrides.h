// Another routing than a model was trained with, where it costs nothing to offer: other numbers of experts,
// another selector, experts left out or forced, for all layers or for some.
#pragma once

#include <string>
#include <vector>

#include "gatewright/models/configuration.h"

namespace gatewright {

/// As the command line has them. LAYERS is "3", "0-5" or, left out with its colon, all routed layers.
struct RoutingOverrides {
  std::vector<std::string> experts_per_token = {};  // "[LAYERS:]N"
  std::vector<std::string> selectors = {};          // "[LAYERS:]NAME[:VALUE]", VALUE of its first parameter
  std::vector<std::string> omit = {};               // "LAYERS:IDS", IDS with commas between them
  std::vector<std::string> force = {};              // the same

  bool empty() const {
    return experts_per_token.empty() && selectors.empty() && omit.empty() && force.empty();
  }
};

/// Changes the routers of the spec. What can't be is an error (UsageError) that names the option and the
/// range of what can.
void apply(const RoutingOverrides& overrides, DecoderSpec& spec);

}  // namespace gatewright

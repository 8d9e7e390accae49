// What a recipe changes in the routing of a model that it goes on with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gatewright/models/configuration.h"

namespace gatewright {

struct RoutingChange {
  std::optional<Piece> selector = {};  // in place of the model's
  std::optional<int64_t> top_k = {};   // experts a token; none: as many as before
  std::vector<Piece> decorators = {};  // around scorer and selector
  std::vector<Piece> balance = {};     // terms; one that the model has takes the new values
  std::string location = {};           // where it is said, for errors

  bool empty() const { return !selector && !top_k && decorators.empty() && balance.empty(); }
};

/// Changes every routed layer. What can't be is an error (UsageError) that begins with the location.
void apply(const RoutingChange& change, DecoderSpec& spec);

}  // namespace gatewright

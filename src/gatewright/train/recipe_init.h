// Recipes with train.init, whose model is that of a file: what they may still say about routing, and what
// not.
#pragma once

#include "gatewright/models/routing_change.h"
#include "gatewright/train/recipe_table.h"

namespace gatewright {

/// The selector and its keys, decorators and balance terms, for every routed layer. Each key that the file
/// decides becomes a problem at its place.
RoutingChange read_routing_change(const RecipeTable& root, RecipeProblems& problems);

}  // namespace gatewright

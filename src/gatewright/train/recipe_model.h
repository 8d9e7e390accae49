// The model that a recipe describes: [model], [experts], [routing], [balance.*], [attention] and [[layers]].
#pragma once

#include "gatewright/models/configuration.h"
#include "gatewright/train/recipe_table.h"

namespace gatewright {

/// What is wrong with it, alone and together, becomes problems.
DecoderSpec read_model(const RecipeTable& root, RecipeProblems& problems);

}  // namespace gatewright

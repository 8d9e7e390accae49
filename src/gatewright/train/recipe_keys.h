// The keys that recipes have besides those of the pieces they name.
#pragma once

#include <vector>

#include "gatewright/base/parameters.h"

namespace gatewright {

std::vector<Parameter> model_keys();
std::vector<Parameter> experts_keys();
std::vector<Parameter> routing_keys();
std::vector<Parameter> train_keys();
std::vector<Parameter> data_keys();

}  // namespace gatewright

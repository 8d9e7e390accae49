// Where a model runs.
#pragma once

#include <string>

#include "gatewright/tensor.h"

namespace gatewright {

/// "cpu", "cuda" (an error when there is none) or "auto" (CUDA when there is one).
at::Device choose_device(const std::string& name);

}  // namespace gatewright

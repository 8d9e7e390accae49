// Whether weights are the ones seen before, without reading all of them.
#pragma once

#include <map>
#include <string>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// 32 hexadecimal digits of the names, types and shapes of tensors and of their bytes: of all of a tensor up
/// to 64 KB, of a larger one 64 pieces of 1 KB spread evenly, the first and the last among them. Where the
/// files lie and how they are split does not matter. Not for security.
std::string weight_fingerprint(const std::map<std::string, TensorView>& tensors);

}  // namespace gatewright

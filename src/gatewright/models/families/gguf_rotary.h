// The rotary embedding as GGUF tells it: keys ARCH.rope.*, and lists that are tensors of their own.
#pragma once

#include <map>
#include <string>

#include "gatewright/formats/tensor_view.h"
#include "gatewright/layers/rotary_frequencies.h"
#include "gatewright/models/families/gguf_keys.h"

namespace gatewright {

/// width: values of a head that are turned.
RotarySpec rotary_from_gguf(const GgufKeys& keys, const std::map<std::string, TensorView>& tensors,
                            int64_t width);

/// Sets the keys that say the same; prefix: "olmoe.".
void set_rotary(GgufMetadata& keys, const std::string& prefix, const RotarySpec& rotary, int64_t width);

}  // namespace gatewright

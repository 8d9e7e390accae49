// Named model sizes. The defaults follow OLMoE (Muennighoff et al. 2024): query/key norm over the projection,
// top-k of a softmax taken as it is, Switch loss 0.01, z-loss 0.001.
#pragma once

#include "gatewright/base/registry.h"
#include "gatewright/models/configuration.h"

namespace gatewright {

/// vocab_size of the preset, or another one when it is not 0.
using PresetFactory = std::function<DecoderSpec(int64_t vocab_size)>;
const Registry<PresetFactory>& model_presets();

}  // namespace gatewright

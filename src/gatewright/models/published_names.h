// Names of tensors in model.safetensors where a published router's own checkpoints have others than ours.
#pragma once

#include <string>

#include "gatewright/models/configuration.h"

namespace gatewright {

/// The name under which a tensor of this layer's router or experts is saved. Layers with the scorer recurrent
/// are named as RMoE's (and Mixtral's) code has them: block_sparse_moe.weight1, .weight2,
/// .experts.0.w1.weight and so on. The routers of the scorer mixture lie beside the adapters that they
/// choose, under mlp.moe_lora.
std::string published_name(const FeedForwardSpec& layer, std::string name);

}  // namespace gatewright

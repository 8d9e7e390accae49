// The keys that recipes have besides those of the pieces they name.
#pragma once

#include <string>
#include <vector>

#include "gatewright/base/parameters.h"

namespace gatewright {

/// Above the first table.
std::vector<Parameter> top_keys();
std::vector<Parameter> model_keys();
std::vector<Parameter> experts_keys();
std::vector<Parameter> routing_keys();
/// Of [attention], when model.attention is selective; its scorer and selector have other defaults than those
/// of [routing].
std::vector<Parameter> attention_keys();
/// Of one [[layers]], for a model with this many.
std::vector<Parameter> layers_keys(int64_t num_layers);
std::vector<Parameter> train_keys();
std::vector<Parameter> data_keys();

bool has_key(const std::vector<Parameter>& keys, const std::string& name);

/// For a key that stands in a table that does not have it: where it belongs, or which piece has it; "" when
/// nothing has a key of this name.
std::string key_hint(const std::string& path, const std::string& key);

}  // namespace gatewright

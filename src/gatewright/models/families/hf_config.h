// Hugging Face's config.json of the families (families.h) read and written.
#pragma once

#include <string_view>

#include "gatewright/base/json.h"
#include "gatewright/models/families/architecture.h"

namespace gatewright {

/// What a config.json describes. Keys that would make another function of the model and are not supported are
/// errors; `what` names the file. Where config.json holds one number of experts, ours may hold a list with
/// one for each layer.
Architecture architecture_from_config(const Json& config, std::string_view what);

/// The keys of config.json that say the same; `config`, when given, is an earlier config.json of the model,
/// whose other keys stay.
OrderedJson config_from_architecture(const Architecture& architecture,
                                     const OrderedJson& config = OrderedJson::object());

/// "experts of other numbers in other layers", ...: what Transformers can't load of it; empty when it can.
std::vector<std::string> beyond_transformers(const Architecture& architecture);

}  // namespace gatewright

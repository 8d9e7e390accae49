// config.json: Hugging Face's keys for what they can say, and one object "gatewright" for what they cannot
// (router kinds, parameters of each piece, layers that differ).
#pragma once

#include <string>
#include <string_view>

#include "gatewright/base/json.h"
#include "gatewright/models/configuration.h"

namespace gatewright {

/// config.json of a model. Models that Hugging Face's OLMoE can run say so in model_type; others say
/// "gatewright".
OrderedJson to_config_json(const DecoderSpec& spec);
/// Reads a config.json: ours, or a plain OLMoE's. `what` names the file in errors.
DecoderSpec parse_config_json(std::string_view text, std::string_view what);

/// {"name": ..., parameters...}
OrderedJson piece_to_json(const Piece& piece);
OrderedJson feed_forward_to_json(const FeedForwardSpec& layer);
FeedForwardSpec feed_forward_from_json(const Json& json, std::string_view what);

}  // namespace gatewright

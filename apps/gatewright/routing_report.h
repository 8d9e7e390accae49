// How a model routes, as JSON and as text with heat maps.
#pragma once

#include "gatewright/base/json.h"
#include "gatewright/evaluate/routing_analysis.h"
#include "gatewright/evaluate/uncertainty_sample.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright::command {

/// `tokenizer` names tokens and may be null.
OrderedJson routing_json(const std::string& model, const RoutingAnalysis& analysis,
                         const Tokenizer* tokenizer);
std::string routing_text(const RoutingAnalysis& analysis, const Tokenizer* tokenizer);
/// One heat map a layer: each domain's share of visits for each expert.
std::string domain_heat_maps(const RoutingAnalysis& analysis);
/// Thresholds that 30, 20, 10 and 5 % of the tokens reach, layer by layer and for all of them.
OrderedJson uncertainty_json(const UncertaintySample& sample);
std::string uncertainty_text(const UncertaintySample& sample);
/// A token's bytes for people: quoted, control characters and broken UTF-8 escaped.
std::string shown_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace gatewright::command

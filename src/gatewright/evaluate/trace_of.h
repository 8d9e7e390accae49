// From what a model did with a batch to the plain values of a trace.
#pragma once

#include "gatewright/formats/routing_trace.h"
#include "gatewright/models/decoder.h"
#include "gatewright/text/packing.h"

namespace gatewright {

/// Feed-forwards in the order of their layers, each round for itself; then what routes in
/// the layers' attention.
TraceHeader trace_header(const DecoderSpec& spec, std::vector<std::string> domains);
/// What a model did in that order.
std::vector<RoutingRecord> traced_records(const DecoderOutput& output);
/// Tokens that fill up the last sequence (without target) are left out.
TraceBatch trace_of(const PackedBatch& packed, const std::vector<RoutingRecord>& records);
LayerTrace layer_trace(const RoutingRecord& record);

}  // namespace gatewright

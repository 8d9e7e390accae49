// From packed sequences (text) to what a decoder reads (models).
#pragma once

#include "gatewright/models/batch.h"
#include "gatewright/text/packing.h"

namespace gatewright {

Batch to_batch(const PackedBatch& packed, at::Device device = at::kCPU);

}  // namespace gatewright

// From packed sequences (text) to what a decoder reads (models).
#pragma once

#include <vector>

#include "gatewright/models/batch.h"
#include "gatewright/text/packing.h"

namespace gatewright {

Batch to_batch(const PackedBatch& packed, at::Device device = at::kCPU);
/// The same sequences without the filling: the full ones together, and each that was filled up by itself, as
/// short as its text. For who counts everything that a model computes.
std::vector<Batch> batches_without_filling(const PackedBatch& packed, at::Device device = at::kCPU);

}  // namespace gatewright

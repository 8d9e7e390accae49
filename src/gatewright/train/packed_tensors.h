// From packed sequences (text) to what a decoder reads (models).
#pragma once

#include "gatewright/models/batch.h"
#include "gatewright/text/packing.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

Batch to_batch(const PackedBatch& packed, at::Device device = at::kCPU);
/// Bytes of text of each token, 0 for the end of text: what packing counts bytes with. [vocab_size]
std::vector<int32_t> token_byte_lengths(const Tokenizer& tokenizer);
TokenizerFacts facts_of(const Tokenizer& tokenizer);

}  // namespace gatewright

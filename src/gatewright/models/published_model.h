// The decoder of a published model's file: our layers put together as the file's architecture says, with the
// file's weights.
#pragma once

#include <functional>

#include "gatewright/models/decoder.h"
#include "gatewright/models/families/model_file.h"

namespace gatewright {

/// What our decoder is made of for this architecture: routers by registered pieces, attention by its options.
DecoderSpec decoder_spec(const Architecture& architecture);

enum class WeightStorage {
  kMapped,    // as the file has them and where they lie, unpacked while they are multiplied with; frozen
  kTrainable  // float32 copies with gradients
};

/// With mapped weights the routers, norms and biases are float32 copies all the same.
/// @param change  may give routers other parameters before the decoder is made (shapes must stay)
/// @param seed  of what is drawn in training
Decoder load_published(const ModelFile& file, WeightStorage storage,
                       const std::function<void(DecoderSpec&)>& change = {}, uint64_t seed = 0);

}  // namespace gatewright

// What a model's weights are multiplied with on calibration text: the importance matrix that quantising
// weighs errors by.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gatewright/formats/imatrix.h"
#include "gatewright/models/decoder.h"
#include "gatewright/models/families/tensor_map.h"
#include "gatewright/text/packing.h"

namespace gatewright {

/// For each column of each matrix that GGUF holds by itself, and each expert, the sum of the squared inputs
/// over the stream, under the names of GGUF. Tensors that hold several of our matrices (Phi-3's) share their
/// input; what lies transposed in GGUF (DeepSeek's attn_k_b) is left out. What fills up the last sequence is
/// not computed and so not counted. Stops early, with what it has, when asked to by Ctrl-C.
/// @param tensors  of the model's file
ImportanceMatrix calibrate(Decoder& model, const std::vector<ModelTensor>& tensors, ValidationStream& stream,
                           int64_t batch_size, const std::function<void(int64_t sequences)>& progress = {});

/// Experts that saw fewer than `least` rows, by weight: "blk.3.ffn_up_exps.weight: expert 7 saw 0 rows".
std::vector<std::string> little_seen(const ImportanceMatrix& matrix, int64_t least);

}  // namespace gatewright

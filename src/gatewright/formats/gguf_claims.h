// What the keys of a GGUF file say about its tensors, for any architecture that follows the usual names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// Where keys and tensors disagree, a sentence each: numbers of layers (blk.N), of experts (*_exps) and of
/// heads, and the types and sizes of the tokenizer's arrays. Keys and tensors that are not there say nothing.
std::vector<std::string> disagreements(const GgufMetadata& metadata,
                                       const std::map<std::string, TensorView>& tensors);

}  // namespace gatewright

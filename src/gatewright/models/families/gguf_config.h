// The keys of a GGUF file that describe the model (ARCH.block_count and so on), read and written.
#pragma once

#include <map>
#include <string>

#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/formats/tensor_view.h"
#include "gatewright/models/families/architecture.h"

namespace gatewright {

/// What the keys describe; some things (the vocabulary's size, tied embeddings, Llama-3's divisors) are told
/// by the tensors. Where llama.cpp has one number of experts for the whole model, ours may be an array with
/// one for each layer. Errors name the file and the key.
Architecture architecture_from_gguf(const GgufMetadata& keys,
                                    const std::map<std::string, TensorView>& tensors);

/// Sets the keys that say the same. What is not of the model (the tokenizer, general.file_type) stays.
void set_architecture(GgufMetadata& keys, const Architecture& architecture);

/// "rope_freqs.weight" and LongRoPE's lists: tensors that belong to the rotary embedding, by name.
std::map<std::string, std::vector<float>> rotary_tensors(const Architecture& architecture);

/// What llama.cpp can't load of it; empty when it can.
std::vector<std::string> beyond_llama_cpp(const Architecture& architecture);

}  // namespace gatewright

// A model folder: config.json, model.safetensors under Hugging Face's names, tokenizer.json.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "gatewright/models/decoder.h"

namespace gatewright {

/// Bytes of model.safetensors for these parameters, header included.
uint64_t model_file_size(const ParameterList& parameters);

/// Writes weights and states (float32) under their names; stacked tensors are cut into one tensor an expert.
/// Written beside and renamed.
void write_weights(const std::filesystem::path& file, const ParameterList& parameters);

/// Reads the weights back into the parameters (F32, BF16 and F16 files). Tensors that are missing, too many
/// or of another shape are errors that name the file and each of them.
void read_weights(const std::filesystem::path& file, const ParameterList& parameters);

/// Reads those parameters that the file has, under their names; the others stay as they are. A tensor of
/// another shape is an error, and so is one that belongs to no parameter.
void read_shared_weights(const std::filesystem::path& file, const ParameterList& parameters);

/// config.json, model.safetensors and tokenizer.json in one folder, the configuration last. Each is written
/// beside and renamed.
void save_model(const std::filesystem::path& folder, const Decoder& model, std::string_view tokenizer_json);

/// What the decoder of a model folder of ours is made of; errors name the file.
DecoderSpec read_spec(const std::filesystem::path& folder);

/// The decoder of a model folder, or of a published model's file (published_model.h), whose weights stay
/// mapped; errors name the file.
/// @param change  may give routers other parameters before the decoder is made (shapes must stay)
/// @param seed  of what is drawn in training
Decoder load_decoder(const std::filesystem::path& folder,
                     const std::function<void(DecoderSpec&)>& change = {}, uint64_t seed = 0);

}  // namespace gatewright

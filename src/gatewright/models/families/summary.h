// What a file of a model holds, for people: of published families everything, of others what names and shapes
// of tensors tell. No LibTorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

struct TensorSummary {
  std::string name;
  std::vector<int64_t> shape;  // as PyTorch has it
  DataType type = DataType::kF32;
  int64_t bytes = 0;
};

struct TypeSummary {
  int64_t tensors = 0, values = 0, bytes = 0;
};

struct ModelSummary {
  std::string architecture = {};  // of the file: general.architecture or model_type
  std::string name = {};
  std::string format = {};  // "GGUF" or "safetensors"
  bool runs = false;        // whether our decoder computes it
  std::string why_not = {};
  int64_t layers = 0;
  int64_t experts = 0;            // of a routed layer, the largest number; 0: dense
  int64_t experts_per_token = 0;  // the largest number
  int64_t routed_layers = 0;
  int64_t parameters = 0;
  int64_t active_parameters = 0;  // a token's
  uint64_t file_bytes = 0;
  std::string gate = {};       // how experts are chosen and weighted, or "" when it is not known
  std::string tokenizer = {};  // "gpt2, smollm, 49152 tokens", or "" without one
  bool chat_template = false;
  std::vector<std::string> notes = {};
  std::map<std::string, TypeSummary> types = {};  // by the type's name
  std::vector<TensorSummary> tensors = {};        // by name
};

/// path: a GGUF file, a safetensors file, or a folder with config.json and safetensors. Fails when it is
/// none, or damaged.
ModelSummary summarize_model(const std::filesystem::path& path);

}  // namespace gatewright

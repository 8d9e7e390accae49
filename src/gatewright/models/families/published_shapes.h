// Architectures of published mixtures, for tests and measurements with random weights.
#pragma once

#include <string>
#include <vector>

#include "gatewright/models/families/architecture.h"

namespace gatewright {

struct PublishedShape {
  std::string name;    // "olmoe-1b-7b"
  std::string source;  // paper or model card
  Architecture architecture;
};

/// OLMoE-1B-7B, Mixtral-8x7B, Qwen1.5-MoE-A2.7B, Qwen3-30B-A3B, DeepSeek-V2-Lite, GPT-OSS-20B.
const std::vector<PublishedShape>& published_shapes();

/// By name; fails with the nearest one.
const PublishedShape& published_shape(const std::string& name);

}  // namespace gatewright

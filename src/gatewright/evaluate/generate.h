// Continuing a text token by token, with a key-value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "gatewright/models/decoder.h"

namespace gatewright {

struct GenerateOptions {
  int64_t max_tokens = 100;
  double temperature = 0.8;  // 0: always the most likely token (ties to the lower id)
  double top_p = 0.95;  // draws from the smallest set of tokens whose probabilities sum to more; 1: from all
  int64_t top_k = 0;    // draws from this many most likely tokens; 0: from all
  uint64_t seed = 0;
  std::optional<int32_t> stop = {};  // ends before this token
};

/// Tokens after `prompt` (at least one token). `see` gets each as it comes; false ends the generation.
std::vector<int32_t> generate(Decoder& model, std::span<const int32_t> prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& see = {});

/// One draw from logits [V] under the options.
int32_t sample(std::span<const float> logits, const GenerateOptions& options, RandomStream& random);

}  // namespace gatewright

// The options by which tokens are drawn, as `generate` and `chat` take them.
#pragma once

#include "gatewright/evaluate/sampler.h"
#include "options.h"

namespace gatewright::command {

/// --temperature, --top-k, --top-p, --min-p and --seed, with their ranges.
void add_sampling(Options& verb, SamplingOptions& sampling, uint64_t& seed);

}  // namespace gatewright::command

// One token drawn from the logits of all, by temperature, top-k (Fan et al. 2018), top-p (Holtzman et al.
// 2020) and min-p (Nguyen et al. 2024).
#pragma once

#include <cstdint>
#include <span>

#include "gatewright/base/random.h"

namespace gatewright {

struct SamplingOptions {
  double temperature =
      0.8;            // 0..100, divides the logits; 0: always the most likely token, ties to the lower id
  int64_t top_k = 0;  // draws from this many most likely tokens (ties to the lower id); 0: from all
  double top_p =
      0.95;  // 0..1, draws from the smallest set of most likely tokens whose probabilities sum to more
  double min_p = 0;  // 0..1, draws from tokens with at least this share of the largest probability
};

/// Fails with the name and the range of what is out of it.
void check_sampling(const SamplingOptions& options);

/// The id of a token. logits [V]; the rules act in the order temperature, top-k, top-p, min-p, each on what
/// the one before it left. A token with a logit of -infinity or no number is never drawn; when there is no
/// other, or one is +infinity, it fails.
int32_t sample(std::span<const float> logits, const SamplingOptions& options, RandomStream& random);

}  // namespace gatewright

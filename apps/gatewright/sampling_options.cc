#include "sampling_options.h"

namespace gatewright::command {

void add_sampling(Options& verb, SamplingOptions& sampling, uint64_t& seed) {
  verb.add("--temperature", sampling.temperature, "0: always the most likely token")
      .range(0.0, 100.0)
      .show_default();
  verb.add("--top-k", sampling.top_k, "draw from this many most likely tokens; 0: from all")
      .not_negative()
      .show_default();
  verb.add("--top-p", sampling.top_p, "draw from the smallest set of tokens with this probability")
      .range(0.0, 1.0)
      .show_default();
  verb.add("--min-p", sampling.min_p, "draw from tokens with at least this share of the largest probability")
      .range(0.0, 1.0)
      .show_default();
  verb.add("--seed", seed, "of the draws").show_default();
}

}  // namespace gatewright::command

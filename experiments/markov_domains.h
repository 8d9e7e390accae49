// The languages that several experiments generate: over the same tokens, as the domains of a corpus.
#pragma once

#include <vector>

#include "experiments/small_model.h"

namespace gatewright::experiments {

inline constexpr int64_t kDomainVocabulary = 64;

/// The tokens 0, 1, ..., kDomainVocabulary - 1.
std::vector<int32_t> domain_tokens();

/// Languages in which every token has eight successors.
std::vector<SuccessorLanguage> make_markov_domains(RandomStream& random, int64_t count = 4);

}  // namespace gatewright::experiments

// The text that several experiments share: four languages over the same tokens, as the domains of a corpus.
#pragma once

#include <vector>

#include "experiments/small_model.h"

namespace gatewright::experiments {

inline constexpr int64_t kDomainVocabulary = 64;

/// The tokens 0, 1, ..., kDomainVocabulary - 1.
std::vector<int32_t> domain_tokens();

/// Languages in which every token has eight successors.
std::vector<SuccessorLanguage> make_markov_domains(RandomStream& random, int64_t count = 4);

/// `rows` sequences of length + 1 tokens, the domains taking turns.
Batch text_of(const std::vector<SuccessorLanguage>& domains, int64_t rows, int64_t length,
              RandomStream& random);

/// The same of any languages.
Batch text_of(const std::vector<std::shared_ptr<const Language>>& domains, int64_t rows, int64_t length,
              RandomStream& random);

}  // namespace gatewright::experiments

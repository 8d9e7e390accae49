#include "experiments/markov_domains.h"

#include <numeric>

namespace gatewright::experiments {

std::vector<int32_t> domain_tokens() {
  std::vector<int32_t> tokens(kDomainVocabulary);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<SuccessorLanguage> make_markov_domains(RandomStream& random, int64_t count) {
  constexpr int64_t kSuccessors = 8;
  std::vector<SuccessorLanguage> domains;
  for (int64_t d = 0; d < count; ++d) domains.emplace_back(domain_tokens(), kSuccessors, random);
  return domains;
}

}  // namespace gatewright::experiments

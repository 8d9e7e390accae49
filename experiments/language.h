// Where an experiment's text comes from: sequences of tokens, by domain.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gatewright/base/random.h"

namespace gatewright::experiments {

class Language {
 public:
  virtual ~Language() = default;
  /// length + 1 tokens.
  virtual std::vector<int32_t> sequence(int64_t length, RandomStream& random) const = 0;
};

using Languages = std::vector<std::shared_ptr<const Language>>;

/// The text of several domains: what models are trained on, and what they have not seen.
struct Domains {
  int64_t vocabulary = 0;
  Languages training = {}, fresh = {};
};

/// Generated languages never say the same twice: fresh text is more of it.
template <typename Generated>
Domains generated_domains(std::vector<Generated> languages, int64_t vocabulary) {
  Domains domains{.vocabulary = vocabulary};
  for (Generated& language : languages)
    domains.training.push_back(std::make_shared<const Generated>(std::move(language)));
  domains.fresh = domains.training;
  return domains;
}

}  // namespace gatewright::experiments

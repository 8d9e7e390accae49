// The normaliser of a tokenizer: what is done to a text before it is cut.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"

namespace gatewright {

class Normalizer {
 public:
  /// As tokenizer.json has it, null for none: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip,
  /// Prepend, Replace, BertNormalizer, Precompiled. Errors name `what`.
  Normalizer(const Json& json, std::string_view what);
  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;

  /// Whether it changes nothing, whatever the text.
  bool empty() const { return steps_.empty(); }
  /// The normalised text: `text` itself when nothing changed, else in `buffer`. Bytes that are no UTF-8 stay.
  std::string_view apply(std::string_view text, std::string& buffer) const;

  class Step;

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace gatewright

// Unicode regular expressions as tokenizer.json has them (Oniguruma's syntax as far as PCRE2 shares it),
// compiled for this processor.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace gatewright {

class Regex {
 public:
  /// Errors name `what`: a pattern that does not compile, or that PCRE2 would understand otherwise.
  Regex(std::string_view pattern, std::string_view what);

  struct Match {
    size_t begin = 0, end = 0;
  };
  /// The first match at or after `from`. Bytes that are no UTF-8 match nothing. A pattern that takes too many
  /// steps is an error. Safe to use from any number of threads.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  struct Code;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

}  // namespace gatewright

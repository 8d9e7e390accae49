// Real text in eight domains, for the budget full.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/language.h"
#include "gatewright/train/events.h"

namespace gatewright::experiments {

class RealText {
 public:
  static constexpr int64_t kVocabulary = 2048;
  static constexpr std::array<std::string_view, 8> kDomains = {"plays", "novel", "encyclopedia", "stories",
                                                               "maths", "code",  "languages",    "speeches"};

  /// Reads the domains' files under `folder`, each gzip, of plain text or JSON lines: Shakespeare's plays, a
  /// novel, encyclopedia articles (WikiText-2), children's stories, sums in words (GSM8K), Java methods, one
  /// book in eight languages, speeches. A byte-level tokenizer of kVocabulary ids is trained on the training
  /// parts. A file that is missing is an error that names all of them.
  RealText(const std::filesystem::path& folder, Events& events);

  /// Of some names among kDomains, in the order given.
  Domains domains(std::span<const std::string_view> names) const;

 private:
  struct Part {
    std::shared_ptr<const Language> training, fresh;
  };
  std::map<std::string, Part, std::less<>> parts_;
};

}  // namespace gatewright::experiments

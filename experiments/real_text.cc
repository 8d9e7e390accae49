#include "experiments/real_text.h"

#include <fmt/ranges.h>

#include <optional>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/formats/compression.h"
#include "gatewright/text/corpus.h"
#include "gatewright/train/training_data.h"

namespace gatewright::experiments {
namespace {

namespace fs = std::filesystem;

/// A domain's file, with the keys of a JSON line that make a document, or its file of text to keep for
/// validation.
struct Source {
  const char *domain, *file;
  std::vector<const char*> keys = {};  // none: plain text
  const char* validation = nullptr;    // else a tenth of the documents
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = {
      {"plays", "text/tinyshakespeare.txt.gz"},
      {"novel", "text/war_and_peace.txt.gz"},
      {"encyclopedia", "text/wikitext2_valid.txt.gz", {}, "text/wikitext2_test.txt.gz"},
      {"stories", "text/tinystories_sample.jsonl.gz", {"text"}},
      {"maths", "text/gsm8k_train.jsonl.gz", {"question", "answer"}, "text/gsm8k_test.jsonl.gz"},
      {"code", "text/code_java_csharp.jsonl.gz", {"java"}},
      {"languages", "text/genesis_8_versions.jsonl.gz", {"text"}},
      {"speeches", "text/us_presidential_speeches.jsonl.gz", {"text"}},
  };
  return all;
}

std::vector<std::string> documents_of(const fs::path& file, const std::vector<const char*>& keys) {
  constexpr size_t kMost = size_t{64} << 20;
  std::string text = decompress(read_file(file), file.string(), kMost);
  if (keys.empty()) return {std::move(text)};
  std::vector<std::string> documents;
  for (size_t begin = 0, line = 1; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const Json row = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                 text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    std::string document;
    for (const char* key : keys) {
      require(row.is_object() && row.contains(key) && row[key].is_string(), "{}: line {} has no text '{}'",
              file.string(), line, key);
      if (!document.empty()) document.push_back('\n');
      document.append(row[key].get_ref<const std::string&>());
    }
    documents.push_back(std::move(document));
    begin = end + 1;
  }
  return documents;
}

/// Windows of one long row of tokens, anywhere in it.
class TokenRow : public Language {
 public:
  explicit TokenRow(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}
  std::vector<int32_t> sequence(int64_t length, RandomStream& random) const override {
    require(length < std::ssize(tokens_), "a text of {} tokens has no sequence of {}", tokens_.size(),
            length + 1);
    const auto first = tokens_.begin() + static_cast<std::ptrdiff_t>(
                                             random.below(tokens_.size() - static_cast<size_t>(length)));
    return {first, first + length + 1};
  }

 private:
  std::vector<int32_t> tokens_;
};

void require_all(const fs::path& folder) {
  std::vector<std::string> missing;
  for (const Source& s : sources()) {
    for (const char* file : {s.file, s.validation}) {
      if (file && !fs::exists(folder / file)) missing.emplace_back(file);
    }
  }
  require(missing.empty(), "{} lacks text that the budget full trains on: {}", folder.string(),
          fmt::join(missing, ", "));
}

}  // namespace

RealText::RealText(const fs::path& folder, Events& events) {
  require_all(folder);
  constexpr double kValidationShare = 0.1;
  std::vector<Document> documents, kept;
  for (const Source& s : sources()) {
    int64_t number = 0;
    for (std::string& text : documents_of(folder / s.file, s.keys))
      documents.push_back({s.domain, fmt::format("{}:{}", s.file, ++number), std::move(text)});
    if (!s.validation) continue;
    for (std::string& text : documents_of(folder / s.validation, s.keys))
      kept.push_back({s.domain, s.validation, std::move(text)});
  }
  const Corpus corpus = Corpus::from_documents(std::move(documents), {.validation_share = kValidationShare});
  const Tokenizer tokenizer = train_tokenizer(corpus, kVocabulary, events);
  std::map<std::string, std::vector<int32_t>, std::less<>> training, fresh;
  const auto append = [&](std::vector<int32_t>& row, const std::string& text) {
    tokenizer.encode(text, row);
    if (const auto end = tokenizer.end_of_text()) row.push_back(*end);
  };
  const auto name_of = [&](const CorpusDocument& d) {
    return corpus.domains()[static_cast<size_t>(d.domain)];
  };
  for (const CorpusDocument& d : corpus.train()) append(training[name_of(d)], d.text);
  for (const Document& d : kept) append(fresh[d.domain], d.text);
  for (const CorpusDocument& d : corpus.validation()) {
    const auto has_own = [&](const Source& s) { return s.validation && s.domain == name_of(d); };
    append((std::ranges::any_of(sources(), has_own) ? training : fresh)[name_of(d)], d.text);
  }
  for (const Source& s : sources())
    parts_[s.domain] = {std::make_shared<const TokenRow>(std::move(training[s.domain])),
                        std::make_shared<const TokenRow>(std::move(fresh[s.domain]))};
}

Domains RealText::domains(std::span<const std::string_view> names) const {
  Domains domains{.vocabulary = kVocabulary};
  for (std::string_view name : names) {
    const auto part = parts_.find(name);
    require(part != parts_.end(), "there is no text of '{}'", name);
    domains.training.push_back(part->second.training);
    domains.fresh.push_back(part->second.fresh);
  }
  return domains;
}

}  // namespace gatewright::experiments

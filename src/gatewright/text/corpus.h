// Documents made ready for training: each content once, sorted into train and validation by document.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/documents.h"

namespace gatewright {

struct CorpusOptions {
  /// Wanted share of validation documents. 0: everything is for training; 1: everything is for validation.
  double validation_share = 0.05;
  /// When positive, a smaller share is taken where it would be more than about this many bytes.
  int64_t most_validation_bytes = 0;
  uint64_t seed = 0;
};

struct CorpusDocument {
  int32_t domain = 0;  ///< index into Corpus::domains()
  std::string text;
};

/// The split depends on nothing but content and seed: a document keeps its side when others come or go, but
/// where its domain would get no document, or far more than the share of its bytes, on the validation side:
/// there the one document whose size comes closest to the wanted share is taken. The only document of a
/// domain is cut at a line end (else before a character), its end is for validation. So every domain has
/// train and validation text (unless all it has is one character).
class Corpus {
 public:
  static Corpus read(std::span<const std::filesystem::path> paths, const CorpusOptions& options = {},
                     const DocumentOptions& document_options = {});
  /// @param documents  in an order that is always the same: of equal contents the first stays
  static Corpus from_documents(std::vector<Document> documents, const CorpusOptions& options = {});

  /// Sorted, each with at least one document.
  const std::vector<std::string>& domains() const { return domains_; }
  const std::vector<CorpusDocument>& train() const { return train_; }
  const std::vector<CorpusDocument>& validation() const { return validation_; }
  /// Of the text of both parts.
  int64_t bytes() const { return bytes_; }
  /// Of all contents, their domains, their order and the split.
  uint64_t fingerprint() const { return fingerprint_; }
  /// What reading left out; duplicates included.
  const ReadSummary& summary() const { return summary_; }

 private:
  std::vector<std::string> domains_;
  std::vector<CorpusDocument> train_, validation_;
  int64_t bytes_ = 0;
  uint64_t fingerprint_ = 0;
  ReadSummary summary_;
};

}  // namespace gatewright

// A corpus as token ids, computed once and kept in one memory-mapped file. Its name is its key: the same
// corpus, split and tokenizer find it again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/file.h"
#include "gatewright/text/corpus.h"
#include "gatewright/text/token_cache_format.h"

namespace gatewright {

enum class Part { kTrain, kValidation };

/// Appends the token ids of a text. Called from several threads at once.
using EncodeFunction = std::function<void(std::string_view, std::vector<int32_t>&)>;
/// (bytes done, bytes in all)
using CacheProgress = std::function<void(int64_t, int64_t)>;

struct TokenizerFacts {
  uint64_t fingerprint = 0;
  int64_t vocab_size = 0;
  std::optional<int32_t> end_of_text;
};

class TokenCache {
 public:
  /// Maps and checks the file completely; damage of any kind, or another key than the wanted one, is an error
  /// that names it.
  static TokenCache open(const std::filesystem::path& file, std::optional<uint64_t> key = std::nullopt);
  /// Opens the cache in `folder` (made when it must be) or tokenises the corpus and writes it. A damaged one
  /// is made anew: origin() tells. Room on the disk is checked before writing.
  static TokenCache open_or_build(const std::filesystem::path& folder, const TokenizerFacts& tokenizer,
                                  const Corpus& corpus, const EncodeFunction& encode,
                                  const CacheProgress& progress = {});
  static uint64_t key_of(const TokenizerFacts& tokenizer, const Corpus& corpus);

  enum class Origin { kOpened, kBuilt, kRebuilt };
  Origin origin() const { return origin_; }
  /// Why the old file was not used (kRebuilt).
  const std::string& rebuilt_because() const { return rebuilt_because_; }
  const std::filesystem::path& path() const { return file_.path(); }

  struct DocumentFacts {
    int32_t domain = 0;
    int64_t tokens = 0;  ///< with the end-of-text token, if there is one
    int64_t bytes = 0;   ///< of text
  };
  int64_t documents(Part part) const;
  DocumentFacts document(Part part, int64_t index) const;
  /// Tokens [begin, begin + out.size()) of a document.
  void copy_tokens(Part part, int64_t index, int64_t begin, std::span<int32_t> out) const;
  int64_t tokens(Part part) const;
  int64_t bytes(Part part) const;

  const std::vector<std::string>& domains() const { return layout_.names; }
  int64_t vocab_size() const { return static_cast<int64_t>(layout_.header.vocab_size); }
  std::optional<int32_t> end_of_text() const;
  uint64_t key() const { return layout_.header.key; }

 private:
  TokenCache(MappedFile file, CacheLayout layout) : file_(std::move(file)), layout_(std::move(layout)) {}
  uint64_t global_index(Part part, int64_t index) const;

  MappedFile file_;
  CacheLayout layout_;
  Origin origin_ = Origin::kOpened;
  std::string rebuilt_because_;
};

}  // namespace gatewright

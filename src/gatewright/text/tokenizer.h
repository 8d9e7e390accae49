// Text to token ids and back: byte-level BPE with GPT-2's pre-tokeniser (Radford et al. 2019), read from and
// written to Hugging Face's tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/bpe.h"

namespace gatewright {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Immutable; copies share one vocabulary. Safe to use from any number of threads.
class Tokenizer {
 public:
  /// Reads a tokenizer.json. Errors name the file.
  static Tokenizer load(const std::filesystem::path& path);
  /// The same from memory; errors name `what`.
  static Tokenizer parse(std::string_view json, std::string_view what);
  /// Checks the vocabulary (ids in range, 256 bytes, merges that fit); errors name `what`.
  explicit Tokenizer(BpeVocabulary vocabulary, std::string_view what = "the tokenizer");

  /// tokenizer.json: the same tokenizer gives the same bytes.
  std::string to_json() const;
  void save(const std::filesystem::path& path) const;

  /// Any bytes, without loss: decode(encode(text)) == text. Adds no begin or end tokens, and the names of
  /// special tokens are plain text.
  std::vector<int32_t> encode(std::string_view text) const;
  /// Appends to `out`.
  void encode(std::string_view text, std::vector<int32_t>& out) const;
  /// The bytes of the tokens, special ones by their name. An id that the vocabulary does not have is an
  /// error.
  std::string decode(std::span<const int32_t> ids) const;

  const std::string& token_bytes(int32_t id) const;
  int64_t vocab_size() const;
  const BpeVocabulary& vocabulary() const;
  /// The id of <|endoftext|> if it is a special token of the vocabulary.
  std::optional<int32_t> end_of_text() const;
  /// Equal for equal tokenizers: a hash of the content.
  uint64_t fingerprint() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace gatewright

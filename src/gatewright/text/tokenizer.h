// Text to token ids and back, for every kind of tokenizer: byte-level BPE (Radford et al. 2019),
// SentencePiece's BPE and Unigram (Kudo and Richardson 2018), WordPiece; read from tokenizer.json, a
// SentencePiece model or GGUF.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/text_range.h"
#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

struct EncodeOptions {
  bool parse_special = false;  // names of special tokens in the text become those tokens: for chat templates
  bool add_special = false;    // put the begin and end tokens around that the tokenizer asks for
  /// With parse_special: parts of the text, in order and apart from each other, where such names stay text; a
  /// name is parsed when it has no byte in any of them. All else is as if the text had no parts.
  std::span<const TextRange> plain = {};
};
struct DecodeOptions {
  bool skip_special = false;
};

/// Immutable; copies share one vocabulary. Safe to use from any number of threads.
class Tokenizer {
 public:
  /// Reads a tokenizer.json, a SentencePiece model or a GGUF file, told by content, or a folder with one of
  /// them, where tokenizer_config.json is read, too. Errors name the file.
  static Tokenizer load(const std::filesystem::path& path);
  /// A tokenizer.json from memory; errors name `what`.
  static Tokenizer parse(std::string_view json, std::string_view what);
  /// Byte-level BPE with GPT-2's pre-tokeniser. Checks the vocabulary; errors name `what`.
  explicit Tokenizer(BpeVocabulary vocabulary, std::string_view what = "the tokenizer");
  /// Checks the definition (ids in range, names that repeat, merges that fit, parts that are known); errors
  /// name `what`.
  explicit Tokenizer(TokenizerDefinition definition, std::string_view what = "the tokenizer");

  /// tokenizer.json: the same tokenizer gives the same bytes.
  std::string to_json() const;
  /// What belongs beside it as tokenizer_config.json: names of the special tokens, the chat template.
  std::string config_json() const;
  void save(const std::filesystem::path& path) const;

  /// Without options adds no begin or end tokens, and the names of special tokens are plain text; added
  /// tokens that are not special are found.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  /// Appends to `out`.
  void encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options = {}) const;
  /// The bytes of the tokens, special ones by their name. An id that the vocabulary does not have is an
  /// error.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  /// What the token adds within a text: a text is its tokens' bytes joined, but for a space that encoding put
  /// first.
  const std::string& token_bytes(int32_t id) const;
  bool is_special(int32_t id) const;
  int64_t vocab_size() const;
  TokenizerKind kind() const;
  const TokenizerDefinition& definition() const;
  /// Whether decode(encode(text)) == text for any bytes: a byte-level vocabulary with all 256 bytes and
  /// nothing that changes the text.
  bool lossless() const;

  /// The id of <|endoftext|> if it is a special token of the vocabulary, else end().
  std::optional<int32_t> end_of_text() const;
  /// The tokens that files name for these purposes; where they name none, those of the post-processor.
  std::optional<int32_t> begin() const;
  std::optional<int32_t> end() const;
  std::optional<int32_t> unknown() const;
  std::optional<int32_t> padding() const;
  /// The id of a token by its text, added ones by their content.
  std::optional<int32_t> find(std::string_view token) const;
  /// Empty when the file has none.
  const std::string& chat_template() const;
  /// Equal for equal tokenizers: a hash of the content.
  uint64_t fingerprint() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace gatewright

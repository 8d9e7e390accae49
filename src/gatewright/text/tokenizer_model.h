// The part of a tokenizer that turns a word into tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

/// Immutable; safe to use from any number of threads.
class TokenizerModel {
 public:
  virtual ~TokenizerModel() = default;
  /// Appends the tokens of one word, not empty, at most 1 GiB.
  virtual void encode_word(std::string_view word, std::vector<int32_t>& out) const = 0;
};

/// The model of the definition's kind, which must live as long. Errors name `what`.
std::unique_ptr<TokenizerModel> make_tokenizer_model(const TokenizerDefinition& definition,
                                                     std::string_view what);

/// Which ids are added tokens, and special ones among them.
struct AddedIds {
  explicit AddedIds(const TokenizerDefinition& definition);
  std::vector<bool> added, special;  // of each id
};

/// What stands for text without a token: its bytes as <0xNN>, or the unknown token, or nothing.
class UnknownText {
 public:
  UnknownText(const TokenizerDefinition& definition, std::string_view what);
  void encode(std::string_view text, std::vector<int32_t>& out) const;
  /// Whether it stands for nothing.
  bool leaves_out() const { return bytes_.empty() && !unknown_; }

 private:
  std::optional<int32_t> unknown_;
  std::vector<int32_t> bytes_;  // 256, or empty
};

/// Appends a word's tokens one after the other, unknown text where the id is -1; neighbouring unknown texts
/// are one when they are to be fused.
class TokenSink {
 public:
  TokenSink(const UnknownText& unknown, bool fuse, std::vector<int32_t>& out)
      : unknown_(unknown), fuse_(fuse), out_(out) {}
  void add(int32_t id, std::string_view text) {
    if (id < 0 && fuse_ && !waiting_.empty()) {
      waiting_ = {waiting_.data(), waiting_.size() + text.size()};
      return;
    }
    flush();
    if (id < 0)
      waiting_ = text;
    else
      out_.push_back(id);
  }
  /// At the end of the word.
  void flush() {
    if (!waiting_.empty()) unknown_.encode(waiting_, out_);
    waiting_ = {};
  }

 private:
  const UnknownText& unknown_;
  bool fuse_;
  std::vector<int32_t>& out_;
  std::string_view waiting_;
};

/// The byte that a token named <0xNN> stands for.
std::optional<uint8_t> byte_of_name(std::string_view token);
/// <0xNN>
std::string name_of_byte(uint8_t byte);

}  // namespace gatewright

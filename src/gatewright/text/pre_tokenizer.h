// The pre-tokeniser of a tokenizer: cuts a text into the words that the model turns into tokens.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "gatewright/base/function_ref.h"
#include "gatewright/base/json.h"

namespace gatewright {

class PreTokenizer {
 public:
  /// As tokenizer.json has it, null for none: Sequence, Split, ByteLevel, Digits, Metaspace, Whitespace,
  /// WhitespaceSplit, Punctuation, BertPreTokenizer, CharDelimiterSplit. Errors name `what`.
  PreTokenizer(const Json& json, std::string_view what);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  /// Whether words go to a byte-level model.
  bool byte_level() const { return byte_level_; }
  /// Whether words never take a space (or another text) that the text does not have, and none is left out.
  bool lossless() const;

  struct Piece {
    std::string_view text;     // what is to be cut
    std::string_view buffer;   // what may be read around it
    bool begins_text = false;  // nothing stands before it
  };
  using Emit = FunctionRef<void(const Piece&)>;
  /// Calls emit for each word in order; none is empty. Words are views of the text or live until emit
  /// returns.
  void cut(const Piece& text, Emit emit) const { cut_from(0, text, emit); }

  /// The one pattern that cuts the text, when the pre-tokeniser is nothing else: its scanner can be run at
  /// once.
  enum class Only { kNothing, kGpt2, kDigitsGpt2, kCl100k, kQwen2, kBert, kOther };
  Only only() const { return only_; }

  class Step;

 private:
  void cut_from(size_t step, const Piece& piece, Emit emit) const;

  std::vector<std::unique_ptr<const Step>> steps_;
  bool byte_level_ = false;
  Only only_ = Only::kNothing;
};

}  // namespace gatewright

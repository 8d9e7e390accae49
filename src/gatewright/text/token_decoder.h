// The decoder of a tokenizer: tokens back to the bytes of a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

class TokenDecoder {
 public:
  /// As tokenizer.json has it, null for none: Sequence, ByteLevel, Metaspace, WordPiece, ByteFallback, Fuse,
  /// Replace, Strip. Errors name `what`.
  TokenDecoder(const TokenizerDefinition& definition, std::string_view what);

  /// What a token adds within a text, of each id: tokens of a byte-level vocabulary their bytes, others after
  /// the steps that look at single tokens, added ones their content.
  std::vector<std::string> pieces(const TokenizerDefinition& definition) const;
  /// The last steps, on the joined pieces of a text from its beginning.
  std::string finish(std::string text) const;
  /// Whether a text is its joined pieces, and the pieces of a byte-level vocabulary are its tokens.
  bool plain() const {
    return token_steps_.empty() && text_steps_.empty() && !drops_first_space_ && !cleans_up_;
  }

 private:
  struct Step {
    enum class Kind { kReplace, kByteFallback, kStrip, kWordPiece } kind;
    std::string pattern = {}, content = {};
    size_t start = 0, stop = 0;
  };
  void add(const Json& json, std::string_view what, std::string_view path, int depth);
  static void apply(const Step& step, std::string& text);

  std::vector<Step> token_steps_, text_steps_;
  bool fused_ = false;
  bool drops_first_space_ = false;
  bool cleans_up_ = false;
};

}  // namespace gatewright

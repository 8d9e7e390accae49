// The cut of a text at added tokens, before the model sees it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/prefix_index.h"
#include "gatewright/text/text_range.h"
#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

class AddedTokenCutter;

/// Parts of a text, in order and apart from each other, where only the tokens of another cutter are found: of
/// its own a cutter finds those that have no byte there.
struct PlainParts {
  std::span<const TextRange> parts = {};
  const AddedTokenCutter* others = nullptr;

  /// How many bytes at `at` lie before the next part. Places never go back.
  size_t room(size_t at);
};

/// Leftmost, then longest match of some added tokens.
class AddedTokenCutter {
 public:
  AddedTokenCutter() = default;
  /// `contents`: of each token as it stands in the text that is cut.
  AddedTokenCutter(std::vector<AddedToken> tokens, std::vector<std::string> contents);

  AddedTokenCutter(const AddedTokenCutter&) = delete;
  AddedTokenCutter& operator=(const AddedTokenCutter&) = delete;
  AddedTokenCutter(AddedTokenCutter&&) = default;
  AddedTokenCutter& operator=(AddedTokenCutter&&) = default;

  bool empty() const { return index_.empty(); }

  /// Calls text(piece) for what lies between tokens and token(id) for each, in order. White space beside a
  /// token with lstrip or rstrip is part of it.
  template <typename Text, typename Token>
  void cut(std::string_view text, PlainParts plain, const Text& on_text, const Token& on_token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const Found found = index_.begins(text[at]) ? find(text, at, done, plain) : Found{};
      if (found.token == nullptr) {
        ++at;
        continue;
      }
      if (found.begin > done) on_text(text.substr(done, found.begin - done));
      on_token(found.token->id);
      done = at = found.end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Found {
    const AddedToken* token = nullptr;
    size_t size = 0;            // of its name
    size_t begin = 0, end = 0;  // with white space
  };
  Found find(std::string_view text, size_t at, size_t done, PlainParts& plain) const;
  /// With a name of at most `longest` bytes.
  Found find(std::string_view text, size_t at, size_t done, size_t longest) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> contents_;
  PrefixIndex index_;  // views of contents_
};

}  // namespace gatewright

// The cut of a text at added tokens, before the model sees it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/prefix_index.h"
#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

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
  void cut(std::string_view text, const Text& on_text, const Token& on_token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const Found found = index_.begins(text[at]) ? find(text, at, done) : Found{};
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
    size_t begin = 0, end = 0;
  };
  Found find(std::string_view text, size_t at, size_t done) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> contents_;
  PrefixIndex index_;  // views of contents_
};

}  // namespace gatewright

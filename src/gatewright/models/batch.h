// What a decoder reads: rows of tokens and where their documents begin.
#pragma once

#include <memory>

#include "gatewright/layers/token_tree.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// B rows of S tokens. A row may hold several documents; attention does not cross their boundaries and
/// positions count from the beginning of each document.
struct Batch {
  Tensor tokens;        // int64 [B, S]
  Tensor targets = {};  // int64 [B, S], the next token; -1: none. Undefined when there is nothing to predict
  Tensor first_key =
      {};  // int32 [B, S], index in the row of the first token of each token's document; undefined: 0

  Tensor real = {};  // bool [B, S], false: filling; undefined: every token is one of a text

  /// One row that is a tree of continuations of what is in the cache; null: rows are texts.
  std::shared_ptr<const TokenTree> tree = {};

  int64_t rows() const { return tokens.size(0); }
  int64_t length() const { return tokens.size(1); }
};

}  // namespace gatewright

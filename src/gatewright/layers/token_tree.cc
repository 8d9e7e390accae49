#include "gatewright/layers/token_tree.h"

#include "gatewright/base/error.h"

namespace gatewright {

TokenTree make_token_tree(std::span<const int64_t> parents) {
  require(std::ssize(parents) <= kLargestTokenTree,
          "a tree of {} tokens is too large for one pass, which takes {}", parents.size(), kLargestTokenTree);
  TokenTree tree;
  for (size_t i = 0; i < parents.size(); ++i) {
    require(parents[i] >= -1 && parents[i] < static_cast<int64_t>(i),
            "the parent of token {} of a tree must come before it, got {}", i, parents[i]);
    const auto parent = static_cast<size_t>(parents[i]);
    const bool first = parents[i] < 0;
    tree.depth.push_back(first ? 0 : tree.depth[parent] + 1);
    tree.sees.push_back((first ? 0 : tree.sees[parent]) | uint64_t{1} << i);
  }
  return tree;
}

}  // namespace gatewright

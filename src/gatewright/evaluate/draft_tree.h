// Trees of drafted tokens, and their greedy verification: speculative decoding that gives what greedy
// decoding would give.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gatewright {

/// Tokens that may follow a text: continuations that share their beginnings.
struct DraftTree {
  std::vector<int32_t> tokens = {};
  std::vector<int64_t> parents =
      {};  // of each token the one before it, which comes first; -1: the end of the text

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  /// Whether they are one continuation.
  bool is_chain() const;
  /// The token among the children of `parent`, or -1.
  int64_t child(int64_t parent, int32_t token) const;
  /// The same, which is added where it is missing.
  int64_t add(int64_t parent, int32_t token);
};

struct AcceptedPath {
  std::vector<int64_t> nodes;  // from the root on
  int32_t bonus = 0;           // the model's token after the last of them
};

/// The longest path of a drafted tree that the model agrees with. Node 0 is the root, accepted as it is; node
/// i > 0 is accepted when its parent is and its token is the model's greedy token there. Of paths of one
/// length the one whose last node has the lowest index wins. tokens, parents, targets [n]: the token of each
/// node, its parent's index (-1 for the root, before it otherwise), and the model's greedy token after it.
AcceptedPath verify_tree(std::span<const int32_t> tokens, std::span<const int64_t> parents,
                         std::span<const int32_t> targets);

}  // namespace gatewright

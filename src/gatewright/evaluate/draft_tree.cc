#include "gatewright/evaluate/draft_tree.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {

bool DraftTree::is_chain() const {
  for (size_t i = 0; i < parents.size(); ++i) {
    if (parents[i] != static_cast<int64_t>(i) - 1) return false;
  }
  return true;
}

int64_t DraftTree::child(int64_t parent, int32_t token) const {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (parents[i] == parent && tokens[i] == token) return static_cast<int64_t>(i);
  }
  return -1;
}

int64_t DraftTree::add(int64_t parent, int32_t token) {
  const int64_t there = child(parent, token);
  if (there >= 0) return there;
  tokens.push_back(token);
  parents.push_back(parent);
  return size() - 1;
}

AcceptedPath verify_tree(std::span<const int32_t> tokens, std::span<const int64_t> parents,
                         std::span<const int32_t> targets) {
  require(!tokens.empty() && parents.size() == tokens.size() && targets.size() == tokens.size(),
          "a draft tree needs a token, a parent and a target for each node, got {}, {} and {}", tokens.size(),
          parents.size(), targets.size());
  require(parents[0] == -1, "node 0 of a draft tree is its root, with the parent -1, got {}", parents[0]);
  std::vector<int64_t> depth(tokens.size(), 0);  // of accepted nodes, the root's is 1; 0: not accepted
  depth[0] = 1;
  size_t last = 0;
  for (size_t i = 1; i < tokens.size(); ++i) {
    require(parents[i] >= 0 && parents[i] < static_cast<int64_t>(i),
            "the parent of node {} must come before it, got {}", i, parents[i]);
    const auto parent = static_cast<size_t>(parents[i]);
    if (depth[parent] == 0 || tokens[i] != targets[parent]) continue;
    depth[i] = depth[parent] + 1;
    if (depth[i] > depth[last]) last = i;
  }
  AcceptedPath path{.nodes = {}, .bonus = targets[last]};
  for (int64_t i = static_cast<int64_t>(last); i >= 0; i = parents[static_cast<size_t>(i)])
    path.nodes.push_back(i);
  std::ranges::reverse(path.nodes);
  return path;
}

}  // namespace gatewright

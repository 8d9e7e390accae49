// New tokens that are no text but continuations which share their beginnings: what each of them sees when one
// pass computes them all (tree attention, Miao et al. 2024, "SpecInfer"; Cai et al. 2024, "Medusa").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gatewright {

struct TokenTree {
  std::vector<int32_t> depth;  // [N] ancestors of each token: its position after the tokens in the cache
  std::vector<uint64_t> sees;  // [N] bit j of token i: j is i or an ancestor of it
  int64_t size() const { return static_cast<int64_t>(depth.size()); }
};

inline constexpr int64_t kLargestTokenTree = 64;

/// parents [N]: of each token the one before it, which stands before it in the list; -1: it follows what is
/// in the cache. Fails for more than kLargestTokenTree tokens and for parents that do not come first.
TokenTree make_token_tree(std::span<const int64_t> parents);

}  // namespace gatewright

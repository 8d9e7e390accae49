// The plain value behind an Assignment: pairs of token and expert, without LibTorch.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gatewright::choice {

/// Chosen (token, expert) pairs in compressed sparse rows over experts, tokens ascending within an expert.
struct Pairs {
  int64_t num_tokens = 0;
  std::vector<int64_t> expert_begin{0};  // [E + 1]
  std::vector<int64_t> token;            // [N]

  int64_t num_experts() const { return static_cast<int64_t>(expert_begin.size()) - 1; }
  int64_t size() const { return static_cast<int64_t>(token.size()); }
};

/// Chosen experts in compressed sparse rows over tokens: how one-row selectors and engines see the same
/// thing.
struct Rows {
  std::vector<int64_t> row_begin{0};  // [T + 1]
  std::vector<int32_t> expert;        // [N]

  int64_t num_tokens() const { return static_cast<int64_t>(row_begin.size()) - 1; }
  std::span<const int32_t> row(int64_t token) const {
    const auto begin = row_begin[static_cast<size_t>(token)], end = row_begin[static_cast<size_t>(token) + 1];
    return std::span(expert).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
};

/// The same pairs the other way round. Stable: experts ascend within a token, tokens within an expert. Fails
/// when an expert or a token does not exist.
/// `place`, when given, receives where each pair of `rows` lies in the result.
Pairs by_expert(const Rows& rows, int64_t num_experts, std::vector<int64_t>* place = nullptr);
Rows by_token(const Pairs& pairs);

/// Fails naming `what` unless expert_begin is monotone and ends at N, and the tokens of each expert ascend
/// strictly within [0, T).
void validate(const Pairs& pairs, std::string_view what);

}  // namespace gatewright::choice

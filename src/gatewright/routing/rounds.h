// Rounds of routing inside one layer: what the experts of one round make of a token is what the router of the
// next one reads ("Chain-of-Experts: Unlocking the Communication Power of Mixture-of-Experts Models" 2025,
// arXiv 2506.18945). CoE(C, K, N) has C rounds that each choose K experts of the same bank of N.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/tensor.h"

namespace gatewright {

/// What a layer hands on. u is the residual stream, x(0) its norm, and m(t) what the experts of round t make
/// of x(t-1).
enum class RoundResidual {
  kInner,        // x(t) = x(t-1) + m(t); the new stream is x(C), and u is not added back (as released)
  kInnerStream,  // x(t) = x(t-1) + m(t); the new stream is u + m(1) + ... + m(C)
  kOuter,        // x(t) = m(t); the new stream is u + x(C)
};

/// "inner", "inner_stream", "outer".
const std::vector<std::string>& round_residual_names();
RoundResidual parse_round_residual(std::string_view name);
/// kInner as released for several rounds; kInnerStream, which is the ordinary layer, for one.
RoundResidual default_residual(int64_t rounds);

inline constexpr int64_t kMostRounds = 64;

/// How often in a row a layer routes. The default is the ordinary layer.
struct RoundsSpec {
  int64_t rounds = 1;  // C
  RoundResidual residual = RoundResidual::kInnerStream;
  bool independent_gating = true;  // a router of its own for each round; else one for all

  bool operator==(const RoundsSpec&) const = default;
  /// Routers with parameters of their own.
  int64_t num_gates() const { return independent_gating ? rounds : 1; }
};

/// The new residual stream is stream + delta, two tensors of one shape: the norm that follows adds them.
struct RoundsOutput {
  Tensor stream, delta;
};

/// m(t) of round t = 1..C, given as t - 1 and x(t-1); the shape of x.
using RoundFunction = std::function<Tensor(int64_t round, const Tensor& x)>;

/// C rounds.
/// @param stream  u, [..., H]
/// @param normed  x(0), as many values as u in any shape, such as [T, H]
RoundsOutput run_rounds(const Tensor& stream, const Tensor& normed, const RoundsSpec& spec,
                        const RoundFunction& experts);

/// n! / (k! (n - k)!), 0 for k > n.
double binomial(int64_t n, int64_t k);

/// In how many ways C rounds of K experts can be chosen from N, over those of one round of C K experts; sets
/// without order: binomial(N, K)^C / binomial(N, C K). Fails when C K > N.
double combination_gain(int64_t rounds, int64_t top_k, int64_t num_experts);

}  // namespace gatewright

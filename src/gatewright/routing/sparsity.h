// How sparse a router's choices are, for single tokens and for chunks of tokens that are computed together
// (Song et al. 2025, BlockFFN, section 3).
#pragma once

#include "gatewright/routing/assignment.h"

namespace gatewright {

/// bool [T, E]: whether a token visits an expert.
Tensor activation_pattern(const Assignment& assignment);
/// Share of (token, expert) that is not active. active bool [T, E].
double token_level_sparsity(const Tensor& active);
/// 1 - share of (chunk, expert) in which any of `chunk` consecutive tokens is active; the tokens after the
/// last whole chunk are left out. With 1 it is the token-level sparsity. Fails when there is no whole chunk.
double chunk_level_sparsity(const Tensor& active, int64_t chunk);

}  // namespace gatewright

// Experts of few tokens at once, computed as one product over the experts that any of them uses (Song et al.
// 2025, BlockFFN, section 4): what makes a block of drafted tokens cheap when they use the same experts.
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// The experts that any token uses, ascending: int64 [n]. score [T, E], 0: not used.
Tensor union_of_experts(const Tensor& score);

/// sum_e score_e D_e silu(U_e x) over all experts. x [T, d]; score [T, E]; up [E, f, d]; down [E, d, f]; any
/// one float type.
Tensor dense_silu_experts(const Tensor& x, const Tensor& score, const Tensor& up, const Tensor& down);

/// The same over the union only: the weights of other experts are not read.
Tensor union_silu_experts(const Tensor& x, const Tensor& score, const Tensor& up, const Tensor& down);

}  // namespace gatewright

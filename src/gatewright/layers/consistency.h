// Two forward passes that should agree: THOR's loss (Zuo et al. 2022, "Taming Sparsely Activated Transformer
// with Stochastic Experts", arXiv 2110.04260), and with one expert R-Drop's (Liang et al. 2021). All in at
// least float32.
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

/// Sum over the tokens with a target of (1 - s - s / (V - 1)) nll + s / (V - 1) sum_v -log p_v, a scalar.
/// @param logits   [N, V]
/// @param targets  int64 [N], -1: none
/// @param smoothing s in [0, 1); 0 is the plain cross entropy
Tensor label_smoothed_cross_entropy(const Tensor& logits, const Tensor& targets, double smoothing);

/// Sum over the tokens with a target of 1/2 sum_v (p_v - q_v) (log p_v - log q_v), p and q the softmax of the
/// two; both carry the gradient. logits [N, V], targets int64 [N].
Tensor symmetric_kl(const Tensor& first, const Tensor& second, const Tensor& targets);

/// CE(first) + CE(second) + alpha symmetric_kl(first, second): sums over the tokens with a target. alpha >=
/// 0.
Tensor consistency_loss(const Tensor& first, const Tensor& second, const Tensor& targets, double alpha,
                        double smoothing);

}  // namespace gatewright

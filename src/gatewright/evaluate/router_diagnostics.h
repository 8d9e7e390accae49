// What papers on routers report about them besides the loss, from tensors of one batch.
#pragma once

#include "gatewright/routing/record.h"

namespace gatewright {

/// Mutual information in nats between two choices of the same tokens, from their joint histogram (plug-in
/// estimate).
/// @param first, second  int64 [T], expert ids below num_experts
double choice_information(const Tensor& first, const Tensor& second, int64_t num_experts);

/// The same between the most probable experts of two layers (Qiu et al. 2024, RMoE).
double layer_information(const RoutingRecord& first, const RoutingRecord& second);

/// Tokens that visit expert i of one choice and expert j of another: float64 [E1, E2] for two rounds of a
/// layer, or two layers, over the same tokens (the co-activation of Chain-of-Experts 2025).
Tensor co_activation(const RoutingRecord& first, const RoutingRecord& second);

/// Mean over tokens of the entropy of a layer's distribution over experts, in nats.
double gate_entropy(const RoutingRecord& record);

/// Mean cosine between the weights of two different experts; weights [E, ...], at least two of them.
double expert_similarity(const Tensor& weights);

}  // namespace gatewright

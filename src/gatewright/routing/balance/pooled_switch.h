// The switch loss of all layers together, as Mixtral's and RMoE's code has it (Qiu et al. 2024, arXiv
// 2408.06793).
#pragma once

#include <vector>

#include "gatewright/routing/balance.h"

namespace gatewright {

/// E x sum_e f_e P_e over the tokens of all layers put one after another: f_e the pairs of expert e over the
/// tokens (no gradient), P_e the mean probability of e. k when balanced, E when all tokens visit the same k
/// experts with probability 1/k each.
/// @param counts         for each layer the pairs of each expert, [E]
/// @param probabilities  for each layer a distribution [T, E], T not the same in all of them
Tensor pooled_switch_loss(const std::vector<Tensor>& counts, const std::vector<Tensor>& probabilities);

class PooledSwitch final : public BalanceTerm {
 public:
  Tensor loss(const Scores&, const Assignment&, const RoutingContext&) override { return {}; }
  bool over_network() const override { return true; }
  Tensor network_loss(const std::vector<const RoutingRecord*>& layers) override;
};

}  // namespace gatewright

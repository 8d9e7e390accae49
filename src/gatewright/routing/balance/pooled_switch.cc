#include "gatewright/routing/balance/pooled_switch.h"

#include "gatewright/base/error.h"
#include "gatewright/routing/balance/switch.h"
#include "gatewright/routing/record.h"

namespace gatewright {

Tensor pooled_switch_loss(const std::vector<Tensor>& counts, const std::vector<Tensor>& probabilities) {
  require(!counts.empty() && counts.size() == probabilities.size(),
          "[pooled_switch] counts of {} layers and probabilities of {}; both are needed for each layer",
          counts.size(), probabilities.size());
  Tensor pairs, sums;
  int64_t tokens = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    require(counts[i].numel() == counts[0].numel() && probabilities[i].size(1) == counts[0].numel(),
            "[pooled_switch] a layer has {} experts and another {}; all must have the same number",
            counts[0].numel(), probabilities[i].size(1));
    const Tensor sum = probabilities[i].sum(0);
    pairs = i ? pairs + counts[i] : counts[i];
    sums = i ? sums + sum : sum;
    tokens += probabilities[i].size(0);
  }
  require(tokens > 0, "[pooled_switch] there are no tokens");
  return switch_loss(pairs / static_cast<double>(tokens), sums / static_cast<double>(tokens));
}

Tensor PooledSwitch::network_loss(const std::vector<const RoutingRecord*>& layers) {
  std::vector<Tensor> counts, probabilities;
  for (const RoutingRecord* layer : layers) {
    if (layer->scores.num_tokens() == 0) continue;
    counts.push_back(expert_counts(layer->assignment));
    probabilities.push_back(distribution(layer->scores));
  }
  return counts.empty() ? Tensor() : pooled_switch_loss(counts, probabilities);
}

}  // namespace gatewright

// A scorer turns hidden states into logits for each expert.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gatewright/base/registry.h"
#include "gatewright/routing/context.h"
#include "gatewright/routing/named_tensor.h"

namespace gatewright {

class Scorer {
 public:
  virtual ~Scorer() = default;
  /// hidden float32 [T, H] -> float32 [T, E]
  virtual Tensor logits(const Tensor& hidden, const RoutingContext& context) = 0;
  /// Appends the parameters, named prefix + ".weight" and so on.
  virtual void collect(ParameterList& parameters, const std::string& prefix) const = 0;
};

struct RouterSizes {
  int64_t hidden_size = 0;
  int64_t num_experts = 0;
  SharedModules* network = nullptr;  // borrowed while routers are made; nullptr: a router for itself
};

/// Fails unless hidden [T, H] has the width of weight [out, H].
void check_width(const Tensor& hidden, const Tensor& weight, const RoutingContext& context);

using ScorerFactory =
    std::function<std::unique_ptr<Scorer>(const Values&, const RouterSizes&, RandomStream&)>;
/// The scorers by name: the one list to touch when adding one.
const Registry<ScorerFactory>& scorers();

using ScorerDecoratorFactory = std::function<std::unique_ptr<Scorer>(std::unique_ptr<Scorer>, const Values&,
                                                                     const RouterSizes&, RandomStream&)>;
/// Scorers around a scorer: jitter, noise, logit_bias, omit.
const Registry<ScorerDecoratorFactory>& scorer_decorators();

}  // namespace gatewright

// A router in words: registered pieces by name, and what can be wrong with them together.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/registry.h"
#include "gatewright/routing/choice/weights.h"

namespace gatewright {

/// A piece chosen by name with its values (checked against its specification).
struct Piece {
  std::string name;
  Values values;
};

/// A registered piece with its defaults and `given` put over them; unknown names and values are errors.
template <typename Factory>
Piece make_piece(const Registry<Factory>& registry, const std::string& name,
                 const std::map<std::string, Value>& given = {}) {
  return {.name = name, .values = Values(registry.at(name).spec.parameters, given, name)};
}

/// The piece of this name, or null.
const Piece* find_piece(const std::vector<Piece>& pieces, std::string_view name);

/// A router in words: what a recipe's [routing] and [balance.*] say. `scorer` and `selector` name registered
/// pieces; decorators are put around them in the order of the registries.
struct RouterSpec {
  Piece scorer;
  Piece selector;
  std::vector<Piece> decorators = {};
  choice::Activation activation = choice::Activation::kSoftmax;
  choice::WeightRule weights = {};
  std::vector<Piece> balance = {};
};

/// Why no router of so many experts can be made of these pieces: a sentence each, empty when one can.
std::vector<std::string> router_problems(const RouterSpec& spec, int64_t num_experts);

/// What such a router will do otherwise than its words suggest, in `num_processes` processes: a sentence
/// each.
std::vector<std::string> router_warnings(const RouterSpec& spec, int64_t num_experts,
                                         int64_t num_processes = 1);

/// A routed layer of a network, for what its routers must agree on.
struct RoutedLayer {
  int64_t layer = 0;
  int64_t num_experts = 0;
  const RouterSpec* router = nullptr;
};
/// Why these routers cannot be in one network: a sentence each, empty when they can.
std::vector<std::string> network_problems(const std::vector<RoutedLayer>& layers);

}  // namespace gatewright

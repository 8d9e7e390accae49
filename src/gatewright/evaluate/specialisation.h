// What routing depends on: how sharply a key (a token id, a position, a domain) decides the expert, and how
// much two checkpoints agree (Xue et al. 2024, OpenMoE, section 4).
#pragma once

#include <cstdint>
#include <vector>

namespace gatewright {

/// Choices of each expert for each key: [K][E]. Count first (or all) choices, before a capacity limit.
using KeyCounts = std::vector<std::vector<double>>;

/// Population standard deviation over experts of a key's distribution: 0 when uniform, sqrt(1/E - 1/E^2) when
/// all choices are one expert's. Fails for a key without choices.
double specialisation_of(const std::vector<double>& counts);
/// Its mean over the keys with at least `least_count` choices; NaN when there is none.
double specialisation(const KeyCounts& counts, double least_count = 128);

struct RoutingOverlap {
  double same_expert = 0;  // share of keys whose most frequent expert (the lowest of equals) is the same
  double cosine = 0;       // mean cosine of the distributions
};
/// Over the keys that occur in both; NaN when there is none.
RoutingOverlap routing_overlap(const KeyCounts& a, const KeyCounts& b);

}  // namespace gatewright

// What the routers of published systems cost beside plain linear top-k, in one process and in turns: the
// routing alone (scores, choice, balance terms), and the whole layer with its experts, forward and backward.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/moe.h"

namespace gatewright::bench {

struct RoutersRow {
  std::string slug;  // of the published system
  double experts_per_token = 0;
  // medians over rounds, forward and backward
  double routing_ns = 0, layer_ns = 0;  // a token
  // medians of the ratios to plain linear top-k within a round
  double routing_over_plain = 0, layer_over_plain = 0;
  double operations_over_plain = 0;  // of the whole layer's products, counted
};

/// Every system at one shape, its feed-forward half. The experts are the same SwiGLU bank for all; selectors
/// that leave the number of experts open are set to shape.top_k on average where they can be. `rounds` rounds
/// after one to warm up. before_each is called with the slug that comes next.
std::vector<RoutersRow> measure_routers(const MoeShape& shape, int rounds,
                                        const std::function<void(const std::string&)>& before_each);

}  // namespace gatewright::bench

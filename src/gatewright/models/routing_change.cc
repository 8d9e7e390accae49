#include "gatewright/models/routing_change.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

void change_selector(const RoutingChange& change, RouterSpec& router) {
  const auto before = router.selector.values.all().find("top_k");
  std::optional<int64_t> top_k = change.top_k;
  if (!top_k && before != router.selector.values.all().end()) top_k = std::get<int64_t>(before->second);
  if (change.selector) router.selector = *change.selector;
  if (top_k && router.selector.values.all().contains("top_k")) router.selector.values.set("top_k", *top_k);
}

void put(std::vector<Piece>& pieces, const Piece& piece) {
  std::erase_if(pieces, [&](const Piece& p) { return p.name == piece.name; });
  pieces.push_back(piece);
}

}  // namespace

void apply(const RoutingChange& change, DecoderSpec& spec) {
  if (change.empty()) return;
  bool routed = false;
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    FeedForwardSpec& layer = spec.layers[static_cast<size_t>(i)];
    if (!layer.routed) continue;
    routed = true;
    if (change.top_k && !change.selector && !layer.router.selector.values.all().contains("top_k"))
      fail_usage("{}: the selector {} of layer {} has no top_k; routing.selector names another",
                 change.location, layer.router.selector.name, i);
    change_selector(change, layer.router);
    for (const Piece& piece : change.decorators) put(layer.router.decorators, piece);
    for (const Piece& piece : change.balance) put(layer.router.balance, piece);
    const std::vector<std::string> problems = router_problems(layer.router, layer.num_experts);
    if (!problems.empty()) fail_usage("{}: layer {}: {}", change.location, i, fmt::join(problems, "; "));
  }
  if (!routed)
    fail_usage(
        "{}: the routing can't be changed: the model that the training begins with has no routed layer",
        change.location);
}

}  // namespace gatewright

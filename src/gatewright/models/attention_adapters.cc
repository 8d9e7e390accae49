#include "gatewright/models/attention_adapters.h"

#include <algorithm>

#include "gatewright/experts/registry.h"

namespace gatewright {

AttentionAdapters::AttentionAdapters(const DecoderSpec& spec, const FeedForwardSpec& layer, uint64_t seed,
                                     const std::string& prefix) {
  for (const AdaptedProjection& p : adapted_projections(spec, layer)) {
    RandomStream random(seed, prefix + p.name + ".moe_lora");
    const RouterSizes sizes{.hidden_size = p.in, .num_experts = layer.num_experts};
    adapters_.push_back(
        {.projection = p.name,
         .router = std::make_unique<Router>(layer.router, sizes, random),
         .map = LoraMap(layer.num_experts, p.in, p.out, adapter_options(layer.experts.values), random)});
  }
}

std::vector<Router*> AttentionAdapters::routers() const {
  std::vector<Router*> all;
  for (const Adapter& a : adapters_) all.push_back(a.router.get());
  return all;
}

const AttentionAdapters::Adapter* AttentionAdapters::find(std::string_view projection) const {
  const auto it = std::ranges::find(adapters_, projection, &Adapter::projection);
  return it == adapters_.end() ? nullptr : &*it;
}

Tensor AttentionAdapters::adapted(std::string_view projection, const Tensor& product, const Tensor& x,
                                  const AttentionRouting& routing) const {
  const Adapter* adapter = find(projection);
  if (!adapter) return product;
  const Tensor tokens = x.reshape({-1, x.size(-1)});
  routing.records.push_back(adapter->router->route(tokens, routing.context));
  return adapter->map
      .adapted(product.reshape({-1, product.size(-1)}), tokens, routing.records.back().assignment,
               {.training = routing.context.training, .random = routing.context.random})
      .view_as(product);
}

void AttentionAdapters::collect(ParameterList& list, const std::string& prefix) const {
  for (const Adapter& a : adapters_) {
    const std::string own = prefix + a.projection + ".moe_lora";
    const size_t first = list.size();
    a.router->collect(list, own + ".gate");
    mark_routers(list, first);
    a.map.collect(list, own + ".experts.{}");
  }
}

}  // namespace gatewright

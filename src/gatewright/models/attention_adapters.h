// LoRA experts on the projections of a layer's attention, each with a router of its own that reads what the
// projection reads (Mixture of Routers 2025, arXiv 2503.23362).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/experts/lora.h"
#include "gatewright/models/configuration.h"

namespace gatewright {

/// What the routers of a layer's attention are told, and where their records go.
struct AttentionRouting {
  const RoutingContext& context;
  std::vector<RoutingRecord>& records;
};

class AttentionAdapters {
 public:
  /// For the layer's adapted_projections, which may be none. Initial weights from streams of `seed` named
  /// after them.
  AttentionAdapters(const DecoderSpec& spec, const FeedForwardSpec& layer, uint64_t seed,
                    const std::string& prefix);

  /// In the order of the records that a forward pass leaves.
  std::vector<Router*> routers() const;
  bool adapts(std::string_view projection) const { return find(projection) != nullptr; }
  /// `product` [..., out] of x [..., in] with the frozen projection, and what its experts add when it is
  /// adapted.
  Tensor adapted(std::string_view projection, const Tensor& product, const Tensor& x,
                 const AttentionRouting& routing) const;
  /// prefix + "q_proj.moe_lora.gate" and "q_proj.moe_lora.experts.{}", with the parameters' own names behind.
  void collect(ParameterList& list, const std::string& prefix) const;

 private:
  struct Adapter {
    std::string projection;
    std::unique_ptr<Router> router;
    LoraMap map;
  };
  const Adapter* find(std::string_view projection) const;

  std::vector<Adapter> adapters_;
};

}  // namespace gatewright

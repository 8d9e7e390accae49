// The attention half of a decoder layer: its weights, its norms, the adapters of its projections and, with
// selective attention, the router that gives each token its heads.
#pragma once

#include <memory>
#include <string>

#include "gatewright/layers/attention.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/models/attention_adapters.h"
#include "gatewright/models/batch.h"
#include "gatewright/models/configuration.h"

namespace gatewright {

class ProductObserver;

/// What a forward pass gives each layer's attention.
struct AttentionInput {
  const DecoderSpec& spec;
  const Batch& batch;
  const RotaryTable& rotary;
  const Tensor& positions;  // int64 [B, S] of the tokens in their documents
  AttentionRouting routing;
  KeyValueCache* cache = nullptr;       // the tokens continue what is in it
  ProductObserver* observer = nullptr;  // sees the products, but for those of selective attention
  int64_t window = 0;                   // positions a query looks back, itself included; 0: all
};

class AttentionBlock {
 public:
  /// Weights from streams of `seed` named after them, which begin with `prefix`
  /// ("model.layers.0.self_attn.").
  AttentionBlock(const DecoderSpec& spec, const FeedForwardSpec& layer, uint64_t seed, std::string prefix);

  /// The router over heads, or those of adapted projections, in the order of the records that they leave.
  std::vector<Router*> routers() const;
  /// normed [B, S, H] -> [B, S, H]. Fails with a cache when heads are chosen by more than their token.
  Tensor forward(const Tensor& normed, const AttentionInput& input) const;
  void collect(ParameterList& list) const;

 private:
  Tensor attend(const Tensor& normed, const AttentionInput& input) const;
  Tensor attend_latent(const Tensor& normed, const LatentAttentionSpec& latent,
                       const AttentionInput& input) const;
  /// Queries, keys and values [B, S, heads, D] to the mixed values [B, S, heads, D].
  Tensor mix(const Tensor& query, const Tensor& key, const Tensor& value, double scale,
             const AttentionInput& input) const;
  Tensor attend_selectively(const Tensor& normed, const Assignment& heads, const AttentionInput& input) const;

  void make_latent_parameters(const DecoderSpec& spec, uint64_t seed);

  std::string prefix_;
  Tensor query_, key_, value_, output_, query_norm_, key_norm_;
  Tensor query_bias_, key_bias_, value_bias_, output_bias_, sinks_;
  // Latent attention: query_ is the second matrix of two when there is query_down_; key_ makes the small
  // vector and the key's rotary part, value_ keys and values from that vector, which key_norm_ norms.
  Tensor query_down_;
  bool latent_ = false;
  std::unique_ptr<Router> router_;
  AttentionAdapters adapters_;
};

}  // namespace gatewright

// Loss of a model on text it was not trained on, in all and for each domain, and how it routed there.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gatewright/models/decoder.h"
#include "gatewright/routing/statistics.h"
#include "gatewright/text/packing.h"

namespace gatewright {

struct TextLoss {
  double loss_sum = 0;  // nats
  int64_t tokens = 0;   // predicted
  int64_t bytes = 0;    // of the text they stand for

  double loss() const { return tokens ? loss_sum / static_cast<double>(tokens) : 0; }
  double perplexity() const;
  double bits_per_byte() const;
};

struct ValidationResult {
  TextLoss all = {};
  std::vector<TextLoss> domains = {};  // by the cache's domain index
  RoutingStatistics routing = {};
};

/// Sees every batch with what the model did (inspection, traces).
using SeeBatch = std::function<void(const PackedBatch&, const DecoderOutput&)>;

/// Runs the whole stream from its beginning, without gradients. Stops early, with what it has, when asked to
/// by Ctrl-C.
ValidationResult validate_on(Decoder& model, ValidationStream& stream, int64_t batch_size,
                             int64_t num_domains, const SeeBatch& see = {});

}  // namespace gatewright

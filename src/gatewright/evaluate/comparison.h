// Two models on the same text, token by token: how far their predictions and their choices of experts are
// apart. How a quantised or edited model is judged.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gatewright/models/decoder.h"
#include "gatewright/text/packing.h"

namespace gatewright {

struct Comparison {
  std::vector<float> kl =
      {};                  // nats, of each predicted token, ascending: sum_v q ln(q / p), q the reference's
  int64_t same_first = 0;  // tokens whose most likely next token is the same
  int64_t chosen = 0;      // pairs of token and expert of the reference, over all layers
  int64_t chosen_by_both = 0;           // those of them that the model has, too
  double loss = 0, reference_loss = 0;  // nats a token, mean

  int64_t tokens() const { return std::ssize(kl); }
  double mean_kl() const;
  /// The value below which a share of the tokens lies, share in [0, 1].
  double kl_percentile(double share) const;
  double agreement() const;         // of the first choice, a share
  double expert_agreement() const;  // a share; 1 when the reference routes nothing
};

/// Runs both over the whole stream. Fails when they have other vocabularies, or other layers that route.
/// Stops early, with what it has, when asked to by Ctrl-C.
Comparison compare_models(Decoder& model, Decoder& reference, ValidationStream& stream, int64_t batch_size,
                          const std::function<void(int64_t sequences)>& progress = {});

}  // namespace gatewright

#include "gatewright/routing/scores.h"

#include <limits>

namespace gatewright {

Tensor activate(choice::Activation activation, const Tensor& logits) {
  switch (activation) {
    case choice::Activation::kSoftmax: {
      const Tensor p = at::softmax(logits, -1);
      // A row without any expert would be 0 / 0.
      const Tensor empty = at::isneginf(logits.detach()).all(-1, /*keepdim=*/true);
      return empty.any().item<bool>() ? p.masked_fill(empty, 0) : p;
    }
    case choice::Activation::kSigmoid:
      return at::sigmoid(logits);
    case choice::Activation::kIdentity:
      return logits;
  }
  return logits;
}

Tensor selection_scores(const Scores& scores, choice::Reads reads) {
  const Tensor logits = scores.logits.detach();
  Tensor values = reads == choice::Reads::kLogits ? logits : scores.probabilities.detach();
  if (scores.selection_bias.defined()) values = values + scores.selection_bias.detach();
  return values.masked_fill(at::isneginf(logits), -std::numeric_limits<float>::infinity());
}

}  // namespace gatewright

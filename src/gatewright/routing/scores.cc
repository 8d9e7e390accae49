#include "gatewright/routing/scores.h"

#include "gatewright/base/parallel.h"
#include "gatewright/routing/choice/selector.h"

namespace gatewright {
namespace {

using choice::kMasked;
constexpr int64_t kRowsPerThread = 64;

/// Rows without any expert are set to 0 on both sides of the softmax: 0 / 0 neither forward nor backward.
Tensor softmax(const Tensor& logits) {
  const Tensor p = at::softmax(logits, -1);
  if (logits.numel() == 0 || !p.detach().select(1, 0).isnan().any().item<bool>()) return p;
  const Tensor empty = at::isneginf(logits.detach()).all(-1, /*keepdim=*/true);
  return at::softmax(logits.masked_fill(empty, 0), -1).masked_fill(empty, 0);
}

/// factor x values + bias in one pass instead of an operation for each step. logits and values [T, E], bias
/// [E] or undefined.
Tensor masked_sum_on_cpu(const Tensor& logits, const Tensor& values, float factor, const Tensor& bias) {
  const Tensor mask = logits.contiguous(), base = values.contiguous();
  Tensor result = at::empty_like(base);
  const Tensor added = bias.defined() ? bias.contiguous() : at::zeros({base.size(1)}, at::kFloat);
  const float *m = mask.data_ptr<float>(), *v = base.data_ptr<float>(), *b = added.data_ptr<float>();
  float* out = result.data_ptr<float>();
  const int64_t width = base.size(1);
  parallel_for(0, base.size(0), kRowsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t * width;
      for (int64_t e = 0; e < width; ++e)
        out[row + e] = m[row + e] == kMasked ? kMasked : factor * v[row + e] + b[e];
    }
  });
  return result;
}

}  // namespace

Tensor activate(choice::Activation activation, const Tensor& logits) {
  switch (activation) {
    case choice::Activation::kSoftmax:
      return softmax(logits);
    case choice::Activation::kSigmoid:
      return at::sigmoid(logits);
    case choice::Activation::kIdentity:
      return logits.masked_fill(at::isneginf(logits.detach()), 0);
    case choice::Activation::kReluRms: {
      const Tensor positive = at::relu(logits);
      return positive / (positive.square().mean(-1, /*keepdim=*/true) + choice::kReluRmsAddend).sqrt();
    }
  }
  return logits;
}

Tensor distribution(const Scores& scores) {
  switch (scores.activation) {
    case choice::Activation::kSoftmax:
      return scores.probabilities;
    case choice::Activation::kSigmoid:
      return scores.probabilities / scores.probabilities.sum(-1, /*keepdim=*/true).clamp_min(1e-20);
    case choice::Activation::kIdentity:
      return softmax(scores.logits);
    case choice::Activation::kReluRms: {
      const Tensor normalised = activate(scores.activation, scores.logits);  // without a gain
      return normalised / (normalised.sum(-1, /*keepdim=*/true) + 1e-5);
    }
  }
  return scores.probabilities;
}

Tensor selection_scores(const Scores& scores, choice::Reads reads) {
  const Tensor logits = scores.logits.detach();
  const Tensor values = reads == choice::Reads::kLogits ? logits : scores.probabilities.detach();
  const Tensor bias = scores.selection_bias.defined() ? scores.selection_bias.detach() : Tensor();
  const auto factor = static_cast<float>(scores.selection_factor);
  if (logits.is_cpu() && logits.scalar_type() == at::kFloat)
    return masked_sum_on_cpu(logits, values, factor, bias);
  const Tensor scaled = values * factor;
  return (bias.defined() ? scaled + bias : scaled).masked_fill(at::isneginf(logits), kMasked);
}

}  // namespace gatewright

#include "gatewright/layers/consistency.h"

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

Tensor log_probabilities(const Tensor& logits) {
  return at::log_softmax(logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat), -1);
}

/// [N] with zero where there is no target.
Tensor masked(const Tensor& per_token, const Tensor& targets) {
  return per_token.masked_fill(targets < 0, 0);
}

}  // namespace

Tensor label_smoothed_cross_entropy(const Tensor& logits, const Tensor& targets, double smoothing) {
  require(smoothing >= 0 && smoothing < 1, "label_smoothing must lie in [0, 1), got {}", smoothing);
  const Tensor log_p = log_probabilities(logits);
  const Tensor nll = log_p.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1).neg();
  if (smoothing == 0) return masked(nll, targets).sum();
  const double each = smoothing / static_cast<double>(logits.size(-1) - 1);
  return masked(nll * (1 - smoothing - each) - log_p.sum(-1) * each, targets).sum();
}

Tensor symmetric_kl(const Tensor& first, const Tensor& second, const Tensor& targets) {
  const Tensor log_p = log_probabilities(first), log_q = log_probabilities(second);
  return masked(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1), targets).sum() * 0.5;
}

Tensor consistency_loss(const Tensor& first, const Tensor& second, const Tensor& targets, double alpha,
                        double smoothing) {
  require(alpha >= 0, "[consistency] alpha must be at least 0, got {}", alpha);
  const Tensor both = label_smoothed_cross_entropy(first, targets, smoothing) +
                      label_smoothed_cross_entropy(second, targets, smoothing);
  return alpha == 0 ? both : both + symmetric_kl(first, second, targets) * alpha;
}

}  // namespace gatewright

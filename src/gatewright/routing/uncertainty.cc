#include "gatewright/routing/uncertainty.h"

#include <algorithm>

#include "gatewright/base/error.h"

namespace gatewright {

Tensor uncertainty(const Tensor& distribution) {
  constexpr double kAddend = 1e-5;
  const Tensor p = distribution.to(at::kFloat);
  return (p * at::log(p + kAddend)).sum(-1).neg();
}

double threshold_for_share(const Tensor& values, double share) {
  require(share > 0 && share < 1, "the share of uncertain tokens must lie in (0, 1), got {}", share);
  require(values.numel() > 0, "a threshold needs the uncertainty of at least one token");
  const Tensor sorted = std::get<0>(values.detach().reshape({-1}).sort(/*dim=*/0, /*descending=*/true));
  const auto count = static_cast<int64_t>(share * static_cast<double>(sorted.numel()) + 0.5);
  return sorted[std::clamp<int64_t>(count, 1, sorted.numel()) - 1].item<double>();
}

}  // namespace gatewright

// Experts whose logit lies within n standard deviations of the best one (Tang et al. 2024, "Top-n-sigma", a
// rule for sampling tokens, applied to experts): few where one stands out, many where all are alike.
#pragma once

#include <cmath>

#include "gatewright/routing/choice/registry.h"

namespace gatewright::choice {

class TopNSigma final : public RowSelector {
 public:
  explicit TopNSigma(double n) : n_(n) { require(n >= 0, "[top_n_sigma] n must be at least 0, got {}", n); }
  Reads reads() const override { return Reads::kLogits; }
  void choose_row(std::span<const float> logits, std::vector<int32_t>& chosen) const override {
    const std::vector<int32_t> order = best_experts(logits, std::ssize(logits));  // without masked experts
    double sum = 0, squares = 0;
    for (int32_t e : order) sum += logits[e], squares += double{logits[e]} * logits[e];
    const double mean = sum / std::ssize(order), variance = squares / std::ssize(order) - mean * mean;
    for (int32_t e : order) {
      if (logits[e] >= logits[order.front()] - n_ * std::sqrt(std::max(0.0, variance))) chosen.push_back(e);
    }
  }

 private:
  double n_;
};

inline Registry<SelectorFactory>::Entry top_n_sigma() {
  return {{.name = "top_n_sigma",
           .summary = "experts whose logit is within n standard deviations of the best",
           .source = "Tang et al. 2024, Top-n-sigma, applied to experts",
           .formula = "chosen = {e : logit_e >= max logit - n std(logits)}",
           .parameters = {{.name = "n", .help = "standard deviations", .default_value = 1.0, .min = 0}}},
          [](const Values& v) { return std::make_unique<TopNSigma>(v.number("n")); }};
}

}  // namespace gatewright::choice

#include "gatewright/routing/rounds.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"

namespace gatewright {

const std::vector<std::string>& round_residual_names() {
  static const std::vector<std::string> names = {"inner", "inner_stream", "outer"};
  return names;
}

RoundResidual parse_round_residual(std::string_view name) {
  const auto& names = round_residual_names();
  const auto it = std::ranges::find(names, name);
  if (it == names.end()) fail_usage("there is no residual '{}'{}", name, did_you_mean(name, names));
  return static_cast<RoundResidual>(it - names.begin());
}

RoundResidual default_residual(int64_t rounds) {
  return rounds > 1 ? RoundResidual::kInner : RoundResidual::kInnerStream;
}

RoundsOutput run_rounds(const Tensor& stream, const Tensor& normed, const RoundsSpec& spec,
                        const RoundFunction& experts) {
  require(spec.rounds >= 1, "[rounds] a layer needs at least one round, got {}", spec.rounds);
  require(stream.numel() == normed.numel(), "[rounds] the norm has {} values, the residual stream {}",
          normed.numel(), stream.numel());
  const auto shaped = [&](const Tensor& x) { return x.reshape(stream.sizes()); };
  Tensor x = normed, sum;
  for (int64_t t = 0; t + 1 < spec.rounds; ++t) {
    const Tensor made = experts(t, x);
    if (spec.residual == RoundResidual::kInnerStream) sum = sum.defined() ? sum + made : made;
    x = spec.residual == RoundResidual::kOuter ? made : x + made;
  }
  const Tensor last = experts(spec.rounds - 1, x);
  if (spec.residual == RoundResidual::kInner) return {.stream = shaped(x), .delta = shaped(last)};
  return {.stream = stream, .delta = shaped(sum.defined() ? sum + last : last)};
}

double binomial(int64_t n, int64_t k) {
  require(n >= 0 && k >= 0, "[binomial] there is no choice of {} from {}", k, n);
  if (k > n) return 0;
  double result = 1;
  for (int64_t i = 1; i <= std::min(k, n - k); ++i)
    result = result * static_cast<double>(n - std::min(k, n - k) + i) / static_cast<double>(i);
  return result;
}

double combination_gain(int64_t rounds, int64_t top_k, int64_t num_experts) {
  require(rounds >= 1 && top_k >= 1 && rounds * top_k <= num_experts,
          "[rounds] {} rounds of {} experts need at least {} experts to compare with one round, got {}",
          rounds, top_k, rounds * top_k, num_experts);
  return std::pow(binomial(num_experts, top_k), static_cast<double>(rounds)) /
         binomial(num_experts, rounds * top_k);
}

}  // namespace gatewright

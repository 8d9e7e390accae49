#include "gatewright/routing/choice/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"

namespace gatewright::choice {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

int index_of(std::string_view name, const std::vector<std::string>& names, std::string_view what) {
  const auto it = std::ranges::find(names, name);
  if (it == names.end()) fail_usage("there is no {} '{}'{}", what, name, did_you_mean(name, names));
  return static_cast<int>(it - names.begin());
}

void softmax(std::span<const float> logits, std::span<float> out) {
  const float largest = *std::ranges::max_element(logits);
  if (largest == kMasked) {
    std::ranges::fill(out, 0.0f);
    return;
  }
  double sum = 0;
  for (size_t e = 0; e < logits.size(); ++e) {
    out[e] = std::exp(logits[e] - largest);
    sum += out[e];
  }
  for (float& p : out) p = static_cast<float>(p / sum);
}

/// One token's share of each chosen expert before the factor. `reference` is what sums run over.
float share(Weighting weighting, std::span<const float> logits, std::span<const float> probabilities,
            std::span<const int32_t> reference, int32_t expert) {
  const auto e = static_cast<size_t>(expert);
  double sum = 0;
  switch (weighting) {
    case Weighting::kAsIs:
      return probabilities[e];
    case Weighting::kEqual:
      return 1.0f / static_cast<float>(reference.size());
    case Weighting::kRenormalised:
      for (int32_t other : reference) sum += probabilities[static_cast<size_t>(other)];
      return static_cast<float>(probabilities[e] / std::max(sum, 1e-20));
    case Weighting::kSoftmaxChosen:
      for (int32_t other : reference)
        sum += std::exp(static_cast<double>(logits[static_cast<size_t>(other)]) - logits[e]);
      return static_cast<float>(1.0 / sum);
  }
  return 0;
}

}  // namespace

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = {"softmax", "sigmoid", "identity"};
  return names;
}

const std::vector<std::string>& weighting_names() {
  static const std::vector<std::string> names = {"as_is", "renormalised", "softmax_chosen", "equal"};
  return names;
}

Activation parse_activation(std::string_view name) {
  return static_cast<Activation>(index_of(name, activation_names(), "activation"));
}
Weighting parse_weighting(std::string_view name) {
  return static_cast<Weighting>(index_of(name, weighting_names(), "weighting"));
}

void activate_row(Activation activation, std::span<const float> logits, std::span<float> probabilities) {
  switch (activation) {
    case Activation::kSoftmax:
      return softmax(logits, probabilities);
    case Activation::kSigmoid:
      for (size_t e = 0; e < logits.size(); ++e) probabilities[e] = 1.0f / (1.0f + std::exp(-logits[e]));
      return;
    case Activation::kIdentity:
      std::ranges::copy(logits, probabilities.begin());
      return;
  }
}

std::vector<float> weights(const WeightRule& rule, const ScoreRows& logits, const ScoreRows& probabilities,
                           const Selection& selection) {
  const Rows& reference = selection.before_capacity ? *selection.before_capacity : selection.rows;
  std::vector<float> result;
  result.reserve(selection.rows.expert.size());
  for (int64_t t = 0; t < selection.rows.num_tokens(); ++t) {
    for (int32_t e : selection.rows.row(t)) {
      const float w = share(rule.weighting, logits.row(t), probabilities.row(t), reference.row(t), e);
      result.push_back(w * static_cast<float>(rule.scale));
    }
  }
  return result;
}

}  // namespace gatewright::choice

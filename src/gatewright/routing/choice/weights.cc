#include "gatewright/routing/choice/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/parallel.h"

namespace gatewright::choice {
namespace {

constexpr int64_t kWeightsPerThread = 64;

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

/// A sum that can be divided by; only a sum of vanishing probabilities is changed.
double divisor(double sum) { return std::abs(sum) < 1e-20 ? 1e-20 : sum; }

/// What a token's weights are computed from: value_e / sum, the sum being over `reference`.
struct RowShares {
  double largest = 0;  // of the logits in the reference, subtracted before exponentiation
  double sum = 1;

  RowShares(Weighting weighting, std::span<const float> scores, std::span<const int32_t> reference) {
    if (weighting == Weighting::kEqual) sum = static_cast<double>(reference.size());
    if (weighting == Weighting::kRenormalised) {
      sum = 0;
      for (int32_t e : reference) sum += scores[static_cast<size_t>(e)];
      sum = divisor(sum);
    }
    if (weighting == Weighting::kSoftmaxChosen && !reference.empty()) {
      largest = kMasked;
      for (int32_t e : reference) largest = std::max<double>(largest, scores[static_cast<size_t>(e)]);
      sum = 0;
      for (int32_t e : reference) sum += std::exp(scores[static_cast<size_t>(e)] - largest);
    }
  }

  double of(Weighting weighting, float score) const {
    if (weighting == Weighting::kEqual || weighting == Weighting::kOne) return 1 / sum;
    return (weighting == Weighting::kSoftmaxChosen ? std::exp(score - largest) : score) / sum;
  }
};

/// Adds to `out` the derivative of sum_e gradient_e weight_e (without the factor) to one token's scores.
void add_row_gradient(const WeightRule& rule, std::span<const float> scores,
                      std::span<const int32_t> reference, std::span<const int32_t> chosen,
                      std::span<const float> gradient, std::span<float> out) {
  const Weighting weighting = rule.weighting;
  if (weighting == Weighting::kOne && rule.straight_through) {
    for (size_t i = 0; i < chosen.size(); ++i) {
      const auto e = static_cast<size_t>(chosen[i]);
      out[e] += static_cast<float>(gradient[i] / std::max<double>(scores[e], kLeastStraightThrough));
    }
  }
  if (weighting == Weighting::kEqual || weighting == Weighting::kOne) return;
  const RowShares shares(weighting, scores, reference);
  double common = 0;  // sum_e gradient_e weight_e
  for (size_t i = 0; i < chosen.size(); ++i)
    common += gradient[i] * shares.of(weighting, scores[static_cast<size_t>(chosen[i])]);
  const bool exponential = weighting == Weighting::kSoftmaxChosen;
  // weight_e = v_e / S: d weight_e / d score_j = v_j' ([e = j] - weight_e) / S, with v' = v for exponentials.
  const auto slope = [&](int32_t e) {
    return exponential ? shares.of(weighting, scores[static_cast<size_t>(e)]) : 1 / shares.sum;
  };
  for (size_t i = 0; i < chosen.size(); ++i)
    out[static_cast<size_t>(chosen[i])] += static_cast<float>(gradient[i] * slope(chosen[i]));
  if (weighting == Weighting::kAsIs) return;
  for (int32_t e : reference) out[static_cast<size_t>(e)] -= static_cast<float>(common * slope(e));
}

void relu_rms(std::span<const float> logits, std::span<float> scores) {
  double squares = 0;
  for (const float x : logits) squares += x > 0 ? double{x} * x : 0.0;
  const double root = std::sqrt(squares / static_cast<double>(logits.size()) + kReluRmsAddend);
  std::ranges::transform(logits, scores.begin(),
                         [root](float x) { return x > 0 ? static_cast<float>(x / root) : 0.0f; });
}

}  // namespace

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = {"softmax", "sigmoid", "identity", "relu_rms"};
  return names;
}

const std::vector<std::string>& weighting_names() {
  static const std::vector<std::string> names = {"as_is", "renormalised", "softmax_chosen", "equal", "one"};
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
      std::ranges::transform(logits, probabilities.begin(), [](float x) { return x == kMasked ? 0 : x; });
      return;
    case Activation::kReluRms:
      return relu_rms(logits, probabilities);
  }
}

bool reads_logits(Weighting weighting) { return weighting == Weighting::kSoftmaxChosen; }

std::vector<float> weights(const WeightRule& rule, const ScoreRows& scores, const Selection& selection) {
  const Rows& rows = selection.rows;
  const Rows& reference = selection.before_capacity ? *selection.before_capacity : rows;
  std::vector<float> result(rows.expert.size());
  parallel_for(0, rows.num_tokens(), kWeightsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const std::span<const float> row = scores.row(t);
      const RowShares shares(rule.weighting, row, reference.row(t));
      auto i = static_cast<size_t>(rows.row_begin[static_cast<size_t>(t)]);
      for (int32_t e : rows.row(t))
        result[i++] = static_cast<float>(rule.scale * shares.of(rule.weighting, row[static_cast<size_t>(e)]));
    }
  });
  return result;
}

void add_weights_gradient(const WeightRule& rule, const ScoreRows& scores, const Selection& selection,
                          std::span<const float> gradient, std::span<float> scores_gradient) {
  const Rows& rows = selection.rows;
  const Rows& reference = selection.before_capacity ? *selection.before_capacity : rows;
  const auto width = static_cast<size_t>(scores.num_experts);
  parallel_for(0, rows.num_tokens(), kWeightsPerThread, [&](int64_t begin, int64_t end) {
    std::vector<float> scaled;
    for (int64_t t = begin; t < end; ++t) {
      const auto chosen = rows.row(t);
      const auto mine =
          gradient.subspan(static_cast<size_t>(rows.row_begin[static_cast<size_t>(t)]), chosen.size());
      scaled.assign(mine.begin(), mine.end());
      for (float& g : scaled) g *= static_cast<float>(rule.scale);
      add_row_gradient(rule, scores.row(t), reference.row(t), chosen, scaled,
                       scores_gradient.subspan(static_cast<size_t>(t) * width, width));
    }
  });
}

}  // namespace gatewright::choice

#include "gatewright/layers/rotary_frequencies.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"none", "linear", "llama3", "yarn", "longrope"};

std::vector<double> plain_frequencies(double theta, int64_t width) {
  std::vector<double> frequency;
  for (int64_t i = 0; i < width; i += 2)
    frequency.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(width)));
  return frequency;
}

double llama3_frequency(const RotarySpec& spec, double f) {
  const double wavelength = 2 * std::numbers::pi / f, original = static_cast<double>(spec.original_positions);
  if (wavelength < original / spec.high_frequency_factor) return f;
  if (wavelength > original / spec.low_frequency_factor) return f / spec.factor;
  const double share = (original / wavelength - spec.low_frequency_factor) /
                       (spec.high_frequency_factor - spec.low_frequency_factor);
  return (1 - share) * f / spec.factor + share * f;
}

/// The pair, as a real number, that turns `turns` times in the original context.
double yarn_pair(const RotarySpec& spec, int64_t width, double turns) {
  return static_cast<double>(width) *
         std::log(static_cast<double>(spec.original_positions) / (2 * std::numbers::pi * turns)) /
         (2 * std::log(spec.theta));
}

void stretch_yarn(const RotarySpec& spec, int64_t width, std::vector<double>& frequency) {
  double low = yarn_pair(spec, width, spec.beta_fast), high = yarn_pair(spec, width, spec.beta_slow);
  if (spec.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  for (size_t i = 0; i < frequency.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(high - low, 0.001), 0.0, 1.0);
    frequency[i] = frequency[i] / spec.factor * ramp + frequency[i] * (1 - ramp);
  }
}

double yarn_magnitude(const RotarySpec& spec) {
  if (spec.attention_factor > 0) return spec.attention_factor;
  const auto of = [&](double mscale) {
    return spec.factor <= 1 ? 1 : 0.1 * mscale * std::log(spec.factor) + 1;
  };
  return spec.mscale > 0 && spec.mscale_all_dim > 0 ? of(spec.mscale) / of(spec.mscale_all_dim) : of(1);
}

double longrope_magnitude(const RotarySpec& spec) {
  if (spec.attention_factor > 0) return spec.attention_factor;
  if (spec.factor <= 1) return 1;
  return std::sqrt(1 + std::log(spec.factor) / std::log(static_cast<double>(spec.original_positions)));
}

template <typename T>
void divide(std::vector<double>& frequency, const std::vector<T>& factors) {
  require(factors.size() == frequency.size(), "the rotary embedding has {} factors for {} pairs of values",
          factors.size(), frequency.size());
  for (size_t i = 0; i < frequency.size(); ++i) frequency[i] /= static_cast<double>(factors[i]);
}

void check(const RotarySpec& spec) {
  require(spec.theta > 1 && spec.factor > 0,
          "the rotary embedding needs theta above 1 and a positive factor, got {} and {}", spec.theta,
          spec.factor);
  const bool needs_original = spec.scaling == RotaryScaling::kYarn ||
                              spec.scaling == RotaryScaling::kLongRope ||
                              (spec.scaling == RotaryScaling::kLlama3 && spec.divisors.empty());
  require(!needs_original || spec.original_positions > 1,
          "rotary scaling '{}' needs the length of the original context", rotary_scaling_name(spec.scaling));
}

}  // namespace

std::string_view rotary_scaling_name(RotaryScaling scaling) { return kNames[static_cast<size_t>(scaling)]; }

std::vector<float> llama3_divisors(const RotarySpec& spec, int64_t width) {
  if (!spec.divisors.empty()) return spec.divisors;
  std::vector<float> divisors;
  for (const double f : plain_frequencies(spec.theta, width))
    divisors.push_back(static_cast<float>(f / llama3_frequency(spec, f)));
  return divisors;
}

bool turns_by_long_factors(const RotarySpec& spec, int64_t positions) {
  return spec.scaling == RotaryScaling::kLongRope && positions > spec.original_positions;
}

RotaryFrequencies rotary_frequencies(const RotarySpec& spec, int64_t width, int64_t positions) {
  require(width > 0 && width % 2 == 0, "[rotary] the width must be even and positive, got {}", width);
  check(spec);
  RotaryFrequencies result{.frequency = plain_frequencies(spec.theta, width)};
  switch (spec.scaling) {
    case RotaryScaling::kNone:
      break;
    case RotaryScaling::kLinear:
      for (double& f : result.frequency) f /= spec.factor;
      break;
    case RotaryScaling::kLlama3:  // by the list, so that both ways to store it give the same angles
      divide(result.frequency, llama3_divisors(spec, width));
      break;
    case RotaryScaling::kYarn:
      stretch_yarn(spec, width, result.frequency);
      result.magnitude = yarn_magnitude(spec);
      break;
    case RotaryScaling::kLongRope:
      divide(result.frequency,
             turns_by_long_factors(spec, positions) ? spec.long_factors : spec.short_factors);
      result.magnitude = longrope_magnitude(spec);
      break;
  }
  return result;
}

double latent_attention_scale(const RotarySpec& spec) {
  if (spec.scaling != RotaryScaling::kYarn || spec.mscale_all_dim <= 0 || spec.factor <= 1) return 1;
  const double m = 0.1 * spec.mscale_all_dim * std::log(spec.factor) + 1;
  return m * m;
}

}  // namespace gatewright

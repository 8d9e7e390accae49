// Angles of the rotary embedding in plain values: one frequency for each pair of a head's values, and the
// ways in which published models stretch them to longer contexts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

enum class RotaryScaling {
  kNone,
  kLinear,    // positions divided by a factor (Chen et al. 2023, arXiv 2306.15595)
  kLlama3,    // long wavelengths divided by a factor, short ones kept (Llama 3.1)
  kYarn,      // the same by a ramp over the dimensions (Peng et al. 2023, arXiv 2309.00071)
  kLongRope,  // a factor of its own for each pair (Ding et al. 2024, arXiv 2402.13753)
};

/// "none", "linear", "llama3", "yarn", "longrope".
std::string_view rotary_scaling_name(RotaryScaling scaling);

struct RotarySpec {
  double theta = 10000.0;
  RotaryScaling scaling = RotaryScaling::kNone;
  double factor = 1;                                           // how much longer than the original context
  int64_t original_positions = 0;                              // of the original context
  double low_frequency_factor = 1, high_frequency_factor = 4;  // Llama-3
  double beta_fast = 32, beta_slow = 1;                        // YaRN: turns in the original context
  bool truncate = true;                                        // YaRN: whole dimensions as the ramp's ends
  double attention_factor = 0;                                 // of cosine and sine; 0: by the rule
  double mscale = 0, mscale_all_dim = 0;                       // YaRN in DeepSeek's models; 0: not there
  std::vector<double> short_factors = {}, long_factors = {};   // LongRoPE, one a pair
  std::vector<float> divisors = {};                            // Llama-3 as GGUF stores it, one a pair

  bool operator==(const RotarySpec&) const = default;
};

struct RotaryFrequencies {
  std::vector<double> frequency;  // radians a position, one a pair
  double magnitude = 1;           // cosine and sine are multiplied by it
};

/// Whether a text of so many tokens turns by LongRoPE's list for long texts: one that is longer than the
/// original context. Keys that were turned by the other list are of no use to it.
bool turns_by_long_factors(const RotarySpec& spec, int64_t positions);

/// The frequencies of `width` rotated values (width / 2 pairs) in a text of `positions` tokens; LongRoPE has
/// others for texts longer than the original context. Fails when lists have another length than the pairs, or
/// a scaling lacks what it needs.
RotaryFrequencies rotary_frequencies(const RotarySpec& spec, int64_t width, int64_t positions);

/// Llama-3's scaling as a list: the plain frequency of each pair over the scaled one.
std::vector<float> llama3_divisors(const RotarySpec& spec, int64_t width);

/// What DeepSeek's models multiply the softmax scale by, besides (nope + rope)^-1/2; 1 without YaRN.
double latent_attention_scale(const RotarySpec& spec);

}  // namespace gatewright

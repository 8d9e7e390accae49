// Scales of quantised blocks: a few candidates, least squares for each, the one with the least squared error.
#pragma once

#include <span>

namespace gatewright {

/// To the nearest whole number, ties to even, for |x| < 2^22.
inline float round_to_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 x 2^23: its last bit stands for 1
  return (x + kMagic) - kMagic;
}

inline float clamp_round(float x, float least, float most) {
  const float low = x < least ? least : x;
  return round_to_even(low > most ? most : low);
}

/// x is about scale q with whole q in [-levels, levels - 1]: the scale, of either sign, that leaves the least
/// sum of weight (x - scale q)^2. 0 when all x are 0. `cuts`: the largest x may be more than levels times the
/// scale, and lose what is over.
float symmetric_scale(std::span<const float> x, std::span<const float> weight, int levels, bool cuts = true);

/// The scale longer by what rounding takes off: least squares leaves x - scale q at right angles to q, so
/// that scale q is shorter than x along x, which all layers of a model add up. This one makes sum of weight x
/// (scale q) = sum of weight x^2, for half a percent more squared error in four bits.
float unshrunk_scale(std::span<const float> x, std::span<const float> weight, float scale, int levels);

struct ScaleMin {
  float scale = 0, min = 0;
};

/// x is about scale q + min with whole q in [0, levels]: the same for both, scale >= 0. With `min_at_most_0`
/// the min is 0 or negative.
ScaleMin asymmetric_scale(std::span<const float> x, std::span<const float> weight, int levels,
                          bool min_at_most_0);

/// Sum of weight (x - scale q - min)^2 with the best whole q in [least, most].
float rounding_error(std::span<const float> x, std::span<const float> weight, ScaleMin scale, float least,
                     float most);

}  // namespace gatewright

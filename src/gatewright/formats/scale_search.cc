#include "gatewright/formats/scale_search.h"

#include <algorithm>
#include <cmath>

namespace gatewright {
namespace {

float signed_largest(std::span<const float> x) {
  float largest = 0;
  for (const float v : x)
    if (std::abs(v) > std::abs(largest)) largest = v;
  return largest;
}

/// Sums over a block with y = x - zero and q = round(inverse y) in [least, most]; in double precision, as
/// what rounding leaves is a small difference of large sums where values lie far from zero.
struct Sums {
  double yq = 0, q = 0, qq = 0;
};
Sums sums_of(std::span<const float> x, std::span<const float> weight, float inverse, float zero, float least,
             float most) {
  double yq = 0, q1 = 0, qq = 0;
#pragma omp simd reduction(+ : yq, q1, qq)
  for (size_t i = 0; i < x.size(); ++i) {
    const float y = x[i] - zero, q = clamp_round(inverse * y, least, most);
    const double wq = static_cast<double>(weight[i]) * q;
    yq += wq * y;
    q1 += wq;
    qq += wq * q;
  }
  return {yq, q1, qq};
}

struct Totals {
  double w = 0, y = 0, yy = 0;
};
Totals totals_of(std::span<const float> x, std::span<const float> weight, float zero) {
  double w = 0, y1 = 0, yy = 0;
#pragma omp simd reduction(+ : w, y1, yy)
  for (size_t i = 0; i < x.size(); ++i) {
    const double y = x[i] - zero, wy = weight[i] * y;
    w += weight[i];
    y1 += wy;
    yy += wy * y;
  }
  return {w, y1, yy};
}

/// The least squares of y on q: y is about scale q + min, with min at most `most_min`.
struct Fit {
  ScaleMin scale;
  double error = INFINITY;
};
Fit fit(const Sums& s, const Totals& t, float most_min) {
  const double determinant = t.w * s.qq - s.q * s.q;
  if (!(determinant > 0)) return {};
  double scale = (t.w * s.yq - t.y * s.q) / determinant, min = (s.qq * t.y - s.q * s.yq) / determinant;
  if (min > most_min) {
    min = most_min;
    scale = (s.yq - min * s.q) / s.qq;
  }
  if (!(scale >= 0)) return {};
  const double error =
      t.yy - 2 * (scale * s.yq + min * t.y) + scale * scale * s.qq + 2 * scale * min * s.q + min * min * t.w;
  return {{static_cast<float>(scale), static_cast<float>(min)}, error};
}

}  // namespace

float symmetric_scale(std::span<const float> x, std::span<const float> weight, int levels, bool cuts) {
  constexpr int kSteps = 9, kStepsUncut = 4;  // of a tenth: up to half a level the largest rounds to the last
  const float largest = signed_largest(x), n = static_cast<float>(levels);
  if (largest == 0) return 0;
  double best = largest / -n, best_gain = -1;
  for (int i = -kSteps; i <= (cuts ? kSteps : kStepsUncut); ++i) {
    const float inverse = -(n + 0.1F * static_cast<float>(i)) / largest;
    const Sums s = sums_of(x, weight, inverse, 0, -n, n - 1);
    if (!(s.qq > 0)) continue;
    const double gain = s.yq / s.qq * s.yq;  // what it takes off the sum of weight x^2
    if (gain > best_gain) {
      best_gain = gain;
      best = s.yq / s.qq;
    }
  }
  return static_cast<float>(best);
}

float unshrunk_scale(std::span<const float> x, std::span<const float> weight, float scale, int levels) {
  if (scale == 0) return 0;
  const float n = static_cast<float>(levels);
  const double yq = sums_of(x, weight, 1 / scale, 0, -n, n - 1).yq;
  const auto longer = static_cast<float>(totals_of(x, weight, 0).yy / yq);
  return std::isfinite(longer) ? longer : scale;
}

ScaleMin asymmetric_scale(std::span<const float> x, std::span<const float> weight, int levels,
                          bool min_at_most_0) {
  constexpr int kSteps = 24;
  const auto [least, most] = std::ranges::minmax(x);
  const float n = static_cast<float>(levels), min = min_at_most_0 ? std::min(least, 0.0F) : least;
  if (!(most > min)) return {0, min};
  Fit best = {{(most - min) / n, 0}, INFINITY};
  const Totals totals = totals_of(x, weight, min);
  const float most_min = min_at_most_0 ? -min : INFINITY;
  for (int i = 0; i <= kSteps; ++i) {
    const float inverse = (n - 1 + 0.1F * static_cast<float>(i)) / (most - min);
    const Fit found = fit(sums_of(x, weight, inverse, min, 0, n), totals, most_min);
    if (found.error < best.error) best = found;
  }
  return {best.scale.scale, best.scale.min + min};
}

float rounding_error(std::span<const float> x, std::span<const float> weight, ScaleMin scale, float least,
                     float most) {
  const float inverse = scale.scale == 0 ? 0 : 1 / scale.scale;
  float error = 0;
#pragma omp simd reduction(+ : error)
  for (size_t i = 0; i < x.size(); ++i) {
    const float q = clamp_round(inverse * (x[i] - scale.min), least, most);
    const float difference = x[i] - scale.scale * q - scale.min;
    error += weight[i] * difference * difference;
  }
  return error;
}

}  // namespace gatewright

#include "gatewright/evaluate/specialisation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double total(const std::vector<double>& counts) { return std::accumulate(counts.begin(), counts.end(), 0.0); }

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace

double specialisation_of(const std::vector<double>& counts) {
  const double all = total(counts), mean = 1 / static_cast<double>(counts.size());
  require(all > 0, "the specialisation of a key needs at least one choice");
  double squares = 0;
  for (const double c : counts) squares += (c / all - mean) * (c / all - mean);
  return std::sqrt(squares * mean);
}

double specialisation(const KeyCounts& counts, double least_count) {
  double sum = 0;
  int64_t keys = 0;
  for (const std::vector<double>& key : counts) {
    const double all = total(key);
    if (all <= 0 || all < least_count) continue;
    sum += specialisation_of(key);
    ++keys;
  }
  return keys > 0 ? sum / static_cast<double>(keys) : kNone;
}

RoutingOverlap routing_overlap(const KeyCounts& a, const KeyCounts& b) {
  require(a.size() == b.size(), "the overlap of two routings needs the same keys, got {} and {}", a.size(),
          b.size());
  double same = 0, cosine = 0;
  int64_t keys = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    if (total(a[k]) <= 0 || total(b[k]) <= 0) continue;
    require(a[k].size() == b[k].size(), "the overlap of two routings needs the same experts, got {} and {}",
            a[k].size(), b[k].size());
    ++keys;
    same += std::ranges::max_element(a[k]) - a[k].begin() == std::ranges::max_element(b[k]) - b[k].begin()
                ? 1
                : 0;
    cosine += dot(a[k], b[k]) / std::sqrt(dot(a[k], a[k]) * dot(b[k], b[k]));
  }
  if (keys == 0) return {.same_expert = kNone, .cosine = kNone};
  return {.same_expert = same / static_cast<double>(keys), .cosine = cosine / static_cast<double>(keys)};
}

}  // namespace gatewright

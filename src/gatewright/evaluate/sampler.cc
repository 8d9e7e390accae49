#include "gatewright/evaluate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

void check_range(const char* name, double value, double most) {
  if (!(value >= 0 && value <= most)) fail_usage("{} must be 0 to {}, not {}", name, most, value);
}

/// The tokens that are left, with weights in proportion to their probabilities.
class Candidates {
  auto better() const {
    return [this](int32_t a, int32_t b) {
      const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
  }

 public:
  Candidates(std::span<const float> logits, double temperature) : logits_(logits), temperature_(temperature) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    largest_ = kNever;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!(logits[i] > kNever)) continue;
      ids_.push_back(static_cast<int32_t>(i));
      largest_ = std::max(largest_, logits[i]);
    }
    require(std::isfinite(largest_), "no token can be drawn: the logits are not numbers");
  }

  void keep_top_k(int64_t k) {
    if (k <= 0 || k >= static_cast<int64_t>(ids_.size())) return;
    std::nth_element(ids_.begin(), ids_.begin() + k, ids_.end(), better());
    ids_.resize(static_cast<size_t>(k));
  }

  void keep_top_p(double p) {
    if (p >= 1) return;
    double all = 0, kept = 0;
    for (const int32_t id : ids_) all += weight(id);
    size_t size = 0, sorted = 0;
    for (; size < ids_.size() && kept <= p * all; kept += weight(ids_[size++]))
      if (size == sorted) sorted = sort_more(sorted);
    ids_.resize(size);
  }

  void keep_min_p(double p) {
    if (p > 0) std::erase_if(ids_, [&](int32_t id) { return weight(id) < p; });
  }

  int32_t draw(RandomStream& random) const {
    double all = 0;
    for (const int32_t id : ids_) all += weight(id);
    double left = random.uniform_double() * all;
    for (const int32_t id : ids_) {
      left -= weight(id);
      if (left < 0) return id;
    }
    return ids_.back();
  }

 private:
  /// Its probability over that of the most likely.
  double weight(int32_t id) const {
    return std::exp((static_cast<double>(logits_[static_cast<size_t>(id)]) - static_cast<double>(largest_)) /
                    temperature_);
  }

  /// Most of the probability lies on few tokens, so that not all need to be put in order.
  size_t sort_more(size_t sorted) {
    const size_t next = std::min(ids_.size(), std::max<size_t>(64, 4 * sorted));
    const auto at = [&](size_t i) { return ids_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::partial_sort(at(sorted), at(next), ids_.end(), better());
    return next;
  }

  std::span<const float> logits_;
  double temperature_;
  float largest_;
  std::vector<int32_t> ids_;
};

int32_t most_likely(std::span<const float> logits) {
  size_t best = logits.size();
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i]) && (best == logits.size() || logits[i] > logits[best])) best = i;
  require(best < logits.size() && std::isfinite(logits[best]),
          "no token can be drawn: the logits are not numbers");
  return static_cast<int32_t>(best);
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  constexpr double kHottest = 100;
  check_range("the temperature", options.temperature, kHottest);
  check_range("top-p", options.top_p, 1);
  check_range("min-p", options.min_p, 1);
  if (options.top_k < 0) fail_usage("top-k must not be negative, it is {}", options.top_k);
}

int32_t sample(std::span<const float> logits, const SamplingOptions& options, RandomStream& random) {
  check_sampling(options);
  if (options.temperature == 0) return most_likely(logits);
  Candidates candidates(logits, options.temperature);
  candidates.keep_top_k(options.top_k);
  candidates.keep_top_p(options.top_p);
  candidates.keep_min_p(options.min_p);
  return candidates.draw(random);
}

}  // namespace gatewright

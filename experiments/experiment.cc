#include "experiments/experiment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>

#include "gatewright/base/error.h"

namespace gatewright::experiments {
namespace {

/// Student's t of the two-sided 95 % interval.
double student_t(int64_t degrees_of_freedom) {
  static constexpr std::array<double, 10> kTable = {12.706, 4.303, 3.182, 2.776, 2.571,
                                                    2.447,  2.365, 2.306, 2.262, 2.228};
  if (degrees_of_freedom <= std::ssize(kTable)) return kTable[static_cast<size_t>(degrees_of_freedom - 1)];
  return 1.96 + 2.4 / static_cast<double>(degrees_of_freedom);  // within 0.02 of the table from 11 on
}

double half_width(const std::vector<double>& values, double mean) {
  const auto n = static_cast<double>(values.size());
  if (n < 2) return 0;
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return student_t(std::ssize(values) - 1) * std::sqrt(squares / (n - 1) / n);
}

std::vector<double> seed_by_seed(const Series& first, const Series& second, auto combine) {
  require(first.values.size() == second.values.size(), "{} of {} was measured {} times, {} of {} {} times",
          first.metric, first.arm, first.values.size(), second.metric, second.arm, second.values.size());
  std::vector<double> result;
  std::ranges::transform(first.values, second.values, std::back_inserter(result), combine);
  return result;
}

}  // namespace

Recorder::Recorder(std::function<void(double done)> done, std::map<std::string, double> learning_rates,
                   const FullBudget* full)
    : done_(std::move(done)), learning_rates_(std::move(learning_rates)), full_(full) {}

void Recorder::add(const std::string& arm, const std::string& metric, double value) {
  measured_.push_back({arm, metric, value});
}

double Recorder::learning_rate(const std::string& arm, double otherwise) const {
  const auto tuned = learning_rates_.find(arm);
  return tuned == learning_rates_.end() ? otherwise : tuned->second;
}

Scale FullBudget::scale_of(int64_t width) const {
  Scale result = scale;
  result.width = width;
  return result;
}

double Series::mean() const {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}
double Series::low() const { return mean() - half_width(values, mean()); }
double Series::high() const { return mean() + half_width(values, mean()); }

std::vector<double> differences(const Series& first, const Series& second) {
  return seed_by_seed(first, second, std::minus());
}
std::vector<double> ratios(const Series& first, const Series& second) {
  return seed_by_seed(first, second, std::divides());
}

void Results::add(const std::vector<Recorder::Measured>& seed) {
  for (const Recorder::Measured& m : seed) {
    auto it = std::ranges::find_if(series_,
                                   [&](const Series& s) { return s.arm == m.arm && s.metric == m.metric; });
    if (it == series_.end()) it = series_.insert(series_.end(), {m.arm, m.metric, {}});
    it->values.push_back(m.value);
  }
  ++seeds_;
}

bool Results::has(const std::string& arm, const std::string& metric) const {
  return std::ranges::any_of(series_, [&](const Series& s) { return s.arm == arm && s.metric == metric; });
}

const Series& Results::at(const std::string& arm, const std::string& metric) const {
  for (const Series& s : series_) {
    if (s.arm == arm && s.metric == metric) return s;
  }
  fail("the experiment measured no {} of {}", metric, arm);
}

std::string verdict_of(const std::vector<Finding>& findings) {
  if (std::ranges::all_of(findings, &Finding::met)) return "reproduced";
  if (std::ranges::all_of(findings, &Finding::direction)) return "direction";
  return "not reproduced";
}

}  // namespace gatewright::experiments

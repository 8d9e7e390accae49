// Experiments: each puts the claim of one published system to the test, small enough for two cores. What is
// measured, under which budget and what counts as reproduced follows the system's description; what was found
// is printed whatever it is.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "experiments/scale.h"

namespace gatewright::experiments {

class RealText;

/// What the budget full gives: real text, and larger models.
struct FullBudget {
  const RealText& text;
  Scale scale = full_scale();
  /// With experts of this width.
  Scale scale_of(int64_t width) const;
};

/// What the experiment of one seed is given and where it leaves its numbers.
class Recorder {
 public:
  /// done: called with the share of the seed's work that is done, in [0, 1]; may throw to end the experiment.
  /// full: null with the budget fast.
  explicit Recorder(std::function<void(double done)> done, std::map<std::string, double> learning_rates = {},
                    const FullBudget* full = nullptr);

  void add(const std::string& arm, const std::string& metric, double value);
  void progress(double done) const { done_(done); }
  /// The arm's learning rate: `otherwise`, the experiment's own, unless the arm was tuned.
  double learning_rate(const std::string& arm, double otherwise) const;
  /// Null with the budget fast, as is the text.
  const FullBudget* full() const { return full_; }
  const RealText* real_text() const { return full_ ? &full_->text : nullptr; }
  /// `fast`, or with the budget full its scale, with experts of this width.
  Scale scale(const Scale& fast, int64_t full_width) const {
    return full_ ? full_->scale_of(full_width) : fast;
  }

  struct Measured {
    std::string arm, metric;
    double value;
  };
  const std::vector<Measured>& measured() const { return measured_; }

 private:
  std::function<void(double)> done_;
  std::map<std::string, double> learning_rates_;
  const FullBudget* full_;
  std::vector<Measured> measured_;
};

/// Values of one metric of one arm, one a seed.
struct Series {
  std::string arm, metric;
  std::vector<double> values;
  double mean() const;
  /// Ends of the 95 % confidence interval of the mean (Student's t); the mean itself with one seed.
  double low() const;
  double high() const;
};

/// Seed by seed, the first series minus the second, and over the second: for conditions that hold in every
/// seed.
std::vector<double> differences(const Series& first, const Series& second);
std::vector<double> ratios(const Series& first, const Series& second);

/// The measurements of all seeds.
class Results {
 public:
  void add(const std::vector<Recorder::Measured>& seed);
  const std::vector<Series>& series() const { return series_; }
  /// Fails when there is none.
  const Series& at(const std::string& arm, const std::string& metric) const;
  bool has(const std::string& arm, const std::string& metric) const;
  double mean(const std::string& arm, const std::string& metric) const { return at(arm, metric).mean(); }
  int64_t seeds() const { return seeds_; }

 private:
  std::vector<Series> series_;
  int64_t seeds_ = 0;
};

/// One of the conditions under which a claim counts as reproduced.
struct Finding {
  std::string condition;   // "mean count in the last 20 steps below 2.5"
  std::string measured;    // "2.24"
  bool met = false;        // as the description demands it
  bool direction = false;  // at least the sign of the effect is right
};

/// "reproduced": every condition is met; "direction": every effect has the right sign; else "not reproduced".
std::string verdict_of(const std::vector<Finding>& findings);

struct Experiment {
  std::string slug, title, source;
  std::string claim;              // what the system is said to do
  std::string published;          // the figure that was published
  std::string criterion;          // when the claim counts as reproduced here
  std::vector<std::string> arms;  // what is compared
  double budget_seconds;          // about what one seed takes on two cores
  double full_seconds;            // the same with the budget full, a larger model on real text
  std::string tuned_by;  // metric by which --tune chooses an arm's learning rate: the smaller the better
  double learning_rate;  // of every arm
  void (*run)(uint64_t seed, Recorder& recorder);
  std::vector<Finding> (*judge)(const Results& results);
};

/// The list to touch when adding one; by slug.
const std::vector<Experiment>& all_experiments();

}  // namespace gatewright::experiments

#include "gatewright/routing/choice/selectors/scheduled_top_k.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"

namespace gatewright::choice {
namespace {

constexpr int64_t kExpPieces = 300;  // of a training, in each of which k stays
constexpr int64_t kMultiSteps[] = {1, 2, 4, 8, 16};

void check_length(KSchedule schedule, int64_t num_steps) {
  if (num_steps < 1)
    fail_usage("[scheduled_top_k] the schedule of k needs the number of steps of the training, got {}",
               num_steps);
  if (schedule == KSchedule::kExpIncrease && num_steps < kExpPieces)
    fail_usage(
        "[scheduled_top_k] exp_increase needs at least {} training steps, got {}; use linear_increase for a "
        "shorter training",
        kExpPieces, num_steps);
}

/// To the nearest whole number, half-way cases to the even one, whatever the processor's rounding mode is.
double round_half_even(double x) {
  const double below = std::floor(x), rest = x - below;
  if (rest != 0.5) return rest < 0.5 ? below : below + 1;
  return std::fmod(below, 2.0) == 0 ? below : below + 1;
}

}  // namespace

const std::vector<std::string>& k_schedule_names() {
  static const std::vector<std::string> names = {
      "linear_increase", "linear_decrease",     "cosine_increase",    "cosine_decrease",
      "exp_increase",    "multi_step_increase", "multi_step_decrease"};
  return names;
}

KSchedule parse_k_schedule(std::string_view name) {
  const auto& names = k_schedule_names();
  const auto it = std::ranges::find(names, name);
  if (it == names.end()) fail_usage("there is no schedule of k '{}'{}", name, did_you_mean(name, names));
  return static_cast<KSchedule>(it - names.begin());
}

int64_t scheduled_k(KSchedule schedule, int64_t step, int64_t num_steps, int64_t k_min, int64_t k_max) {
  check_length(schedule, num_steps);
  const int64_t s = std::clamp<int64_t>(step, 0, num_steps);
  const auto low = static_cast<double>(k_min), high = static_cast<double>(k_max), range = high - low,
             at = static_cast<double>(s), all = static_cast<double>(num_steps);
  const double cosine = std::cos(std::numbers::pi * at / (2 * all));
  const auto piece = std::min<size_t>(static_cast<size_t>(5 * s / num_steps), 4);
  const auto value = [&]() -> double {
    switch (schedule) {
      case KSchedule::kLinearIncrease:
        return round_half_even(range * at / all) + low;
      case KSchedule::kLinearDecrease:
        return round_half_even(-range * at / all) + high;
      case KSchedule::kCosineIncrease:
        return round_half_even(-range * cosine) + high;
      case KSchedule::kCosineDecrease:
        return round_half_even(range * cosine) + low;
      case KSchedule::kExpIncrease: {
        const int64_t whole_pieces = s / (num_steps / kExpPieces);
        return round_half_even(-range * std::pow(0.99, static_cast<double>(whole_pieces))) + high;
      }
      case KSchedule::kMultiStepIncrease:
        return static_cast<double>(kMultiSteps[piece]);
      case KSchedule::kMultiStepDecrease:
        return static_cast<double>(kMultiSteps[4 - piece]);
    }
    return high;
  };
  return std::clamp(static_cast<int64_t>(value()), k_min, k_max);
}

int64_t ScheduledTopK::k(int64_t num_experts, const ChoiceContext& context) const {
  if (!context.training || context.num_steps == 0)
    return options_.k_inference > 0 ? options_.k_inference : k_max(num_experts);
  return scheduled_k(options_.schedule, context.step, context.num_steps, k_min(num_experts),
                     k_max(num_experts));
}

Selection ScheduledTopK::choose(const ScoreRows& scores, const ChoiceContext& context) const {
  check_scores(scores, context.layer);
  return TopK(k(scores.num_experts, context)).choose(scores, context);
}

void ScheduledTopK::check_experts(int64_t num_experts) const {
  if (k_max(num_experts) > num_experts)
    fail_usage("[scheduled_top_k] k_max = {} of {} experts; choose at most {}", options_.k_max, num_experts,
               num_experts);
  if (options_.k_inference > num_experts)
    fail_usage("[scheduled_top_k] k_inference = {} of {} experts; choose at most {}", options_.k_inference,
               num_experts, num_experts);
  if (k_min(num_experts) > k_max(num_experts))
    fail_usage("[scheduled_top_k] k_min = {} is more than k_max = {}; choose at most that",
               k_min(num_experts), k_max(num_experts));
}

void ScheduledTopK::check_steps(int64_t num_steps) const { check_length(options_.schedule, num_steps); }

}  // namespace gatewright::choice

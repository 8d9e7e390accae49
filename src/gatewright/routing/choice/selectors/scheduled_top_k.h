// Top-k whose k changes in training: SMoE-Dropout (Chen et al. 2023, "Sparse MoE as the New Dropout", arXiv
// 2303.01610).
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

enum class KSchedule {
  kLinearIncrease,
  kLinearDecrease,
  kCosineIncrease,
  kCosineDecrease,
  kExpIncrease,
  kMultiStepIncrease,
  kMultiStepDecrease
};
const std::vector<std::string>& k_schedule_names();
KSchedule parse_k_schedule(std::string_view name);

/// k at step s of S, rounded half to even and clipped to [k_min, k_max]:
///   linear_increase      round((k_max - k_min) s / S) + k_min
///   linear_decrease      round((k_min - k_max) s / S) + k_max
///   cosine_increase      round((k_min - k_max) cos(pi s / (2 S))) + k_max
///   cosine_decrease      round((k_max - k_min) cos(pi s / (2 S))) + k_min
///   exp_increase         round((k_min - k_max) 0.99^floor(s / floor(S / 300))) + k_max, for S >= 300
///   multi_step_increase  1, 2, 4, 8, 16 by fifths of the training; multi_step_decrease the other way
/// A step beyond S is S; S < 1 is an error, as is S < 300 of exp_increase.
int64_t scheduled_k(KSchedule schedule, int64_t step, int64_t num_steps, int64_t k_min, int64_t k_max);

struct ScheduledTopKOptions {
  KSchedule schedule = KSchedule::kLinearIncrease;
  int64_t k_min = 0;        // 0: half of the experts
  int64_t k_max = 0;        // 0: all experts
  int64_t k_inference = 0;  // outside training; 0: k_max
};

/// The k highest scores, k by schedule in training and fixed otherwise. What a smaller k chooses, a larger
/// one chooses, too.
class ScheduledTopK final : public Selector {
 public:
  explicit ScheduledTopK(const ScheduledTopKOptions& options) : options_(options) {}
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return Reads::kLogits; }
  void check_experts(int64_t num_experts) const override;
  void check_steps(int64_t num_steps) const override;
  /// The k of this pass among so many experts.
  int64_t k(int64_t num_experts, const ChoiceContext& context) const;

 private:
  int64_t k_max(int64_t num_experts) const { return options_.k_max > 0 ? options_.k_max : num_experts; }
  int64_t k_min(int64_t num_experts) const {
    return options_.k_min > 0 ? options_.k_min : std::max<int64_t>(1, num_experts / 2);
  }
  ScheduledTopKOptions options_;
};

}  // namespace gatewright::choice

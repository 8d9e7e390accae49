// Selectors that decide each token by its own scores.
#pragma once

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// The k highest scores (Shazeer et al. 2017; Fedus et al. 2021 with k = 1).
class TopK final : public RowSelector {
 public:
  explicit TopK(int64_t k);
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;
  void choose_rows(const ScoreRows& rows, std::vector<int32_t>& chosen,
                   std::span<int64_t> counts) const override;

 private:
  int64_t k_;
};

/// The smallest set of most probable experts whose probabilities sum to more than p (Huang et al. 2024,
/// "Harder Tasks Need More Experts", eq. 4); between min_experts and max_experts of them (0 = no limit).
class TopP final : public RowSelector {
 public:
  TopP(double p, int64_t min_experts, int64_t max_experts);
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;

 private:
  double p_;
  int64_t min_experts_, max_experts_;
};

/// Experts at least `ratio` times as probable as the most probable one; so always one.
class MinP final : public RowSelector {
 public:
  explicit MinP(double ratio);
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;

 private:
  float ratio_;
};

/// Experts with a probability of more than `threshold`; the best ones in any case while fewer than
/// min_experts.
class Threshold final : public RowSelector {
 public:
  Threshold(double threshold, int64_t min_experts);
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;

 private:
  float threshold_;
  int64_t min_experts_;
};

/// Experts with a positive logit (ReMoE, Wang et al. 2024); possibly none.
class ReluSelector final : public RowSelector {
 public:
  Reads reads() const override { return Reads::kLogits; }
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;
};

/// Every expert: a soft mixture.
class All final : public RowSelector {
 public:
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;
};

/// How a group of experts is scored by its members.
enum class GroupScore { kBest, kSumOfTwoBest };

/// Fails unless the experts can be cut into groups of equal size.
void check_groups(int64_t num_experts, int64_t num_groups);

/// Top-k within the best groups of consecutive experts: DeepSeek-V2 scores a group by its best expert
/// (section 2.1.3), DeepSeek-V3 by the sum of its two best (section 2.1.2). The number of experts must be a
/// multiple of the number of groups.
class GroupLimitedTopK final : public RowSelector {
 public:
  GroupLimitedTopK(int64_t k, int64_t num_groups, int64_t groups_used, GroupScore group_score);
  void choose_row(std::span<const float> scores, std::vector<int32_t>& chosen) const override;

 private:
  int64_t k_, num_groups_, groups_used_;
  GroupScore group_score_;
};

}  // namespace gatewright::choice

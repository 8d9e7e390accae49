// Decorators: selectors around a selector.
#pragma once

#include <memory>
#include <string>

#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

/// What happens to a pair when its expert is full.
enum class Overflow {
  kDropByPosition,  // later tokens lose (Switch Transformer, section 2.2)
  kDropByScore,     // tokens with the lower scores lose (V-MoE's batch priority)
  kReroute,         // as by position, and the token goes to its next best expert with room, if there is one
};

/// At most ceil(factor x N / E) tokens an expert, N being the number of pairs that were chosen. What the
/// others' weights are normalised over stays as it was, so that a dropped pair is missing from the token's
/// output.
class Capacity final : public Selector {
 public:
  Capacity(std::unique_ptr<Selector> inner, double factor, Overflow overflow);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return inner_->reads(); }
  bool looks_at_one_row() const override { return false; }

 private:
  std::unique_ptr<Selector> inner_;
  double factor_;
  Overflow overflow_;
};

/// The given experts are chosen for every token. They take the places of the token's lowest chosen experts,
/// so that a token costs what it did; with `add` they come on top. A forced expert that is masked (-inf) for
/// a token stays out.
class Force final : public Selector {
 public:
  Force(std::unique_ptr<Selector> inner, std::vector<int32_t> experts, bool add);
  Selection choose(const ScoreRows& scores, const ChoiceContext& context) const override;
  Reads reads() const override { return inner_->reads(); }
  bool looks_at_one_row() const override { return inner_->looks_at_one_row(); }

 private:
  Rows force(const ScoreRows& scores, const Rows& chosen) const;
  std::vector<int32_t> force_row(std::span<const float> scores, std::span<const int32_t> chosen) const;

  std::unique_ptr<Selector> inner_;
  std::vector<int32_t> experts_;  // ascending
  bool add_;
};

}  // namespace gatewright::choice

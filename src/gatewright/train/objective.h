// What a training minimises, besides balance terms.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "gatewright/base/registry.h"
#include "gatewright/models/decoder.h"

namespace gatewright {

struct ObjectiveValue {
  Tensor loss;           // mean over the batch's targets, with gradient
  Tensor cross_entropy;  // plain, mean over targets and passes, for reports; no gradient
  Tensor disagreement =
      {};  // mean over targets of the symmetric divergence of two passes; undefined with one
};

class Objective {
 public:
  virtual ~Objective() = default;
  /// Forward passes over each batch, each with its own random draws.
  virtual int64_t passes() const { return 1; }
  /// @param hidden   of each pass, [N, H] after the final norm
  /// @param head     [V, H]
  /// @param targets  int64 [N], -1: none
  virtual ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                               const Tensor& targets) const = 0;
};

using ObjectiveFactory = std::function<std::unique_ptr<Objective>(const Values&)>;
/// The objectives by name: next_token, consistency.
const Registry<ObjectiveFactory>& objectives();

}  // namespace gatewright

// What a training minimises, besides balance terms.
#pragma once

#include <functional>
#include <memory>
#include <optional>
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

/// Which batch of which step is learned from.
struct ObjectiveContext {
  int64_t step = 0, num_steps = 0;  // done, and of the whole training (0: not known)
  int64_t micro_batch = 0;          // of the step
  int64_t vocab_size = 0;           // of the model
};

class Objective {
 public:
  virtual ~Objective() = default;
  /// Tokens that it needs beside those of the tokenizer: the last ones of the model's vocabulary.
  virtual int64_t extra_tokens() const { return 0; }
  /// The batch that is learned from instead of this one; none when it stays as it is. The same for the same
  /// context.
  virtual std::optional<Batch> rewritten(const Batch& /*batch*/, const ObjectiveContext& /*context*/) const {
    return std::nullopt;
  }
  /// Forward passes over each batch, each with its own random draws.
  virtual int64_t passes() const { return 1; }
  /// @param hidden   of each pass, [N, H] after the final norm
  /// @param head     [V, H]
  /// @param targets  int64 [N], -1: none
  virtual ObjectiveValue value(const std::vector<Tensor>& hidden, const Tensor& head,
                               const Tensor& targets) const = 0;
};

using ObjectiveFactory = std::function<std::unique_ptr<Objective>(const Values&)>;
/// The objectives by name: next_token, consistency, ul2.
const Registry<ObjectiveFactory>& objectives();

}  // namespace gatewright

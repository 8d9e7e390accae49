// How much a language model's experiment computes.
#pragma once

#include <cstdint>
#include <string>

namespace gatewright::experiments {

struct Scale {
  int64_t hidden_size, num_layers, width;  // of the model; width: of one expert
  int64_t length, rows;                    // sequences of a step
  int64_t steps;
  int64_t fresh_rows;  // sequences of the evaluation, of each domain or of all

  /// Standard deviation of initial weights: the spread with which linear maps of this size usually begin.
  double init() const;
  /// [model] with four heads.
  std::string model_recipe() const;
};

/// The scale of the budget full: models of four layers on 2,048 tokens a step, so many steps that no
/// experiment takes more than a quarter of an hour a seed on two cores. Experts are as wide as the experiment
/// says.
Scale full_scale();

}  // namespace gatewright::experiments

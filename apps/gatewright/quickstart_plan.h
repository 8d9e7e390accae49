// What `gatewright quickstart` decided, kept in the output folder so that an interrupted one goes on with it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/text/corpus.h"
#include "gatewright/train/events.h"
#include "gatewright/train/recipe.h"
#include "gatewright/train/training_data.h"

namespace gatewright::command {

/// The three models: a starting recipe each, by the name of its folder.
struct QuickstartRun {
  std::string name, recipe;
};
const std::vector<QuickstartRun>& quickstart_runs();

struct QuickstartPlan {
  double minutes = 0;
  std::string data = {};   // fingerprint of the corpus
  int64_t steps = 0;       // of each model; 0: not decided yet
  int64_t batch_size = 8;  // sequences in a step
};

/// plan.json of the folder; none when there is no such file.
std::optional<QuickstartPlan> read_plan(const std::filesystem::path& folder);
void write_plan(const std::filesystem::path& folder, const QuickstartPlan& plan);

/// The recipe of a run under the plan.
Recipe recipe_of(const QuickstartRun& run, const QuickstartPlan& plan);

/// Decides the steps that fit into the minutes, which every model makes, and the sequences in each: fewer on
/// a slow machine or for few minutes, so that there are enough steps. From the time of a few steps of the
/// dense and the top-2 model on the real data.
void decide_steps(QuickstartPlan& plan, const TrainingData& data, Events& events);

}  // namespace gatewright::command

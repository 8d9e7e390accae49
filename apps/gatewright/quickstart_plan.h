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
  std::string data = {};  // fingerprint of the corpus
  int64_t steps = 0;      // of each model; 0: not decided yet
};

/// plan.json of the folder; none when there is no such file.
std::optional<QuickstartPlan> read_plan(const std::filesystem::path& folder);
void write_plan(const std::filesystem::path& folder, const QuickstartPlan& plan);

/// The recipe of a run under the plan.
Recipe recipe_of(const QuickstartRun& run, const QuickstartPlan& plan);

/// Steps that fit: every model makes as many. From the time of a few steps of the dense and the top-2 model
/// on the real data.
int64_t steps_for(double minutes, const TrainingData& data, Events& events);

}  // namespace gatewright::command

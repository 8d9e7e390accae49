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
  std::string data = {};                     // fingerprint of the corpus
  int64_t steps = 0;                         // of each model; 0: not decided yet
  std::optional<double> top_p = {};          // of the training, once calibrated
  std::optional<double> settled_top_p = {};  // of the trained model
};

/// plan.json of the folder; none when there is no such file.
std::optional<QuickstartPlan> read_plan(const std::filesystem::path& folder);
void write_plan(const std::filesystem::path& folder, const QuickstartPlan& plan);

/// The recipe of a run under the plan.
Recipe recipe_of(const QuickstartRun& run, const QuickstartPlan& plan);

/// Steps that fit: every model makes as many, and top-p 15 % more for its calibration. From the time of a
/// few steps of the dense and the top-2 model on the real data.
int64_t steps_for(double minutes, const TrainingData& data, Events& events);

/// Trains the top-p model for 15 % of the steps in `folder`/pilot and returns the p at which its routers
/// visit as many experts as top-2, on training text. None when interrupted.
std::optional<double> pilot_top_p(const std::filesystem::path& folder, const QuickstartPlan& plan,
                                  const Corpus& corpus, const TrainingData& data, Events& events);

/// The same of the trained model in `folder`/top-p, whose config.json then holds that p: its routers have
/// changed since the pilot.
std::optional<double> settle_top_p(const std::filesystem::path& folder, const TrainingData& data);

}  // namespace gatewright::command

// What `gatewright quickstart` shows: each model on the validation text, side by side.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/evaluate/routing_analysis.h"
#include "gatewright/models/configuration.h"
#include "gatewright/train/training_data.h"

namespace gatewright::command {

struct RunResult {
  std::string name;
  ParameterCounts parameters = {};
  double bits_per_byte = 0;
  std::vector<double> domain_bits_per_byte = {};  // by the cache's domain index
  double tokens_per_second = 0;                   // in training, median over its log
  double experts_per_token = 1;                   // 1 for a dense model
  double load_imbalance = 0;
  std::optional<RoutingAnalysis> routing = {};  // of a mixture
};

/// Validates the model in `folder`/`name`. None when interrupted.
std::optional<RunResult> result_of(const std::filesystem::path& folder, const std::string& name,
                                   const TrainingData& data);

/// {"runs": [...], "domains": [...]} and what else describes the comparison.
OrderedJson summary_json(const std::vector<RunResult>& results, const std::vector<std::string>& domains);
std::string comparison_text(const std::vector<RunResult>& results, const std::vector<std::string>& domains);

/// For each domain the beginning of a validation document and how the model in `folder` goes on.
std::string samples_text(const std::filesystem::path& folder, const TrainingData& data);

}  // namespace gatewright::command

// What `gatewright reproduce` leaves behind: JSON, CSV and a chart of one system, the table of all.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "gatewright/base/json.h"

namespace gatewright::command {

using LearningRates = std::map<std::string, double>;  // of each arm

/// What one run of an experiment found.
struct Reproduction {
  const experiments::Experiment& experiment;
  int seeds = 0;
  std::string budget;
  experiments::Results results = {};
  experiments::Results tuned = {};  // none without tuning
  LearningRates rates = {};         // the tuned ones
  double seconds = 0;
};

OrderedJson json_of(const Reproduction& r);
std::string csv_of(const experiments::Results& results);
/// SVG: the arms by the metric that they are tuned by.
std::string chart_of(const Reproduction& r);
/// For people, on a terminal.
std::string text_of(const Reproduction& r);

/// The table of all systems from what json_of gave for each: "slug", "claim", "published", "measured",
/// "seeds", "verdict", "seconds", "commit", "machine" and more.
OrderedJson table_json(const std::vector<OrderedJson>& systems);
/// The same as a page.
std::string table_markdown(const OrderedJson& table);

}  // namespace gatewright::command

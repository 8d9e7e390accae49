#include "catalogue.h"

#include <utility>

#include "gatewright/experts/registry.h"
#include "gatewright/models/presets.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"
#include "gatewright/train/objective.h"
#include "gatewright/train/optimizer.h"
#include "gatewright/train/recipe.h"
#include "gatewright/train/schedule.h"

namespace gatewright::command {
namespace {

OrderedJson parameter_json(const Parameter& p) {
  return {{"name", p.name},
          {"help", p.help},
          {"type", type_name(p.default_value)},
          {"default", p.required ? "" : to_string(p.default_value)},
          {"allowed", allowed_range(p)}};
}

OrderedJson spec_json(const Spec& spec) {
  OrderedJson json = {{"name", spec.name},
                      {"summary", spec.summary},
                      {"source", spec.source},
                      {"formula", spec.formula},
                      {"parameters", OrderedJson::array()}};
  for (const Parameter& p : spec.parameters) json["parameters"].push_back(parameter_json(p));
  return json;
}

template <typename Factory>
void add(OrderedJson& list, const Registry<Factory>& registry, const std::string& place) {
  for (const auto& entry : registry.entries()) {
    OrderedJson json = spec_json(entry.spec);
    json["place"] = std::string(place).replace(place.find("NAME"), 4, entry.spec.name);
    list.push_back(json);
  }
}

template <typename Factory>
OrderedJson list_of(const Registry<Factory>& registry, const std::string& place) {
  OrderedJson list = OrderedJson::array();
  add(list, registry, place);
  return list;
}

OrderedJson models() {
  OrderedJson list = list_of(model_presets(), "[model] preset = \"NAME\"");
  for (OrderedJson& entry : list) {
    const ParameterCounts counts =
        count_parameters(model_presets().at(entry["name"].get<std::string>()).make(0));
    entry["stands_for"] = preset_settings(entry["name"].get<std::string>());
    entry["total_parameters"] = counts.total;
    entry["active_parameters"] = counts.active;
  }
  return list;
}

}  // namespace

OrderedJson make_catalogue() {
  OrderedJson decorators = OrderedJson::array();
  add(decorators, choice::selector_decorators(), "[routing.NAME]");
  add(decorators, scorer_decorators(), "[routing.NAME]");
  add(decorators, expert_bank_decorators(), "[experts.NAME]");
  OrderedJson tables = OrderedJson::array();
  for (const Spec& spec : recipe_tables()) {
    OrderedJson json = spec_json(spec);
    json["place"] = std::exchange(json["formula"], "");
    tables.push_back(json);
  }
  return {{"scorers", list_of(scorers(), "[routing] scorer = \"NAME\"")},
          {"selectors", list_of(choice::selectors(), "[routing] selector = \"NAME\"")},
          {"balance", list_of(balance_terms(), "[balance.NAME]")},
          {"experts", list_of(expert_banks(), "[experts] bank = \"NAME\"")},
          {"schedules", list_of(schedules(), "[train] schedule = \"NAME\"")},
          {"objectives", list_of(objectives(), "[train] objective = \"NAME\"")},
          {"optimizers", list_of(optimizers(), "[train] optimizer = \"NAME\"")},
          {"models", models()},
          {"decorators", decorators},
          {"recipe", tables}};
}

}  // namespace gatewright::command

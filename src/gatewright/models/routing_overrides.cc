#include "gatewright/models/routing_overrides.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/base/number_list.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"

namespace gatewright {
namespace {

/// One option's layers and what comes after them.
struct Override {
  const char* option;
  std::string given;
  std::vector<FeedForwardSpec*> layers;
  std::string value;

  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail_usage("{} {}: {}", option, given, fmt::format(format, std::forward<Args>(args)...));
  }
};

Override parse(const char* option, const std::string& given, bool layers_needed, DecoderSpec& spec) {
  Override result{.option = option, .given = given, .layers = {}, .value = given};
  const size_t colon = given.find(':');
  const auto layers = colon == std::string::npos
                          ? std::nullopt
                          : parse_number_range(std::string_view(given).substr(0, colon));
  if (!layers && layers_needed) result.refuse("LAYER:IDS was expected, such as 0:1,2 or 0-3:5");
  if (layers) {
    result.value = given.substr(colon + 1);
    if (layers->last >= spec.num_layers())
      result.refuse("the model has layers 0 to {}", spec.num_layers() - 1);
  }
  const int64_t first = layers ? layers->first : 0, last = layers ? layers->last : spec.num_layers() - 1;
  for (int64_t i = first; i <= last; ++i) {
    FeedForwardSpec& layer = spec.layers[static_cast<size_t>(i)];
    if (layer.routed) result.layers.push_back(&layer);
  }
  if (result.layers.empty()) result.refuse("{} no experts", layers ? "these layers have" : "the model has");
  return result;
}

std::vector<int64_t> parse_experts(const Override& o) {
  int64_t experts = o.layers[0]->num_experts;
  for (const FeedForwardSpec* layer : o.layers) experts = std::min(experts, layer->num_experts);
  const auto given = parse_number_list(o.value);
  if (!given) o.refuse("expert ids with commas between them were expected after the layer");
  const std::set<int64_t> ids(given->begin(), given->end());
  if (*ids.rbegin() >= experts) o.refuse("the layer has experts 0 to {}", experts - 1);
  if (std::ssize(ids) == experts && std::string_view(o.option) == "--omit")
    o.refuse("these are all {} experts; one must stay", experts);
  return {ids.begin(), ids.end()};
}

Piece decorator(const char* name, const std::vector<int64_t>& experts) {
  if (scorer_decorators().find(name)) return make_piece(scorer_decorators(), name, {{"experts", experts}});
  return make_piece(choice::selector_decorators(), name, {{"experts", experts}});
}

void add_decorator(const Override& o, const char* name) {
  const std::vector<int64_t> experts = parse_experts(o);
  for (FeedForwardSpec* layer : o.layers) {
    std::vector<Piece>& all = layer->router.decorators;
    std::erase_if(all, [&](const Piece& p) { return p.name == name; });
    all.push_back(decorator(name, experts));
  }
}

void set_experts_per_token(const Override& o) {
  const auto count = parse_number(o.value);
  for (FeedForwardSpec* layer : o.layers) {
    if (!count || *count < 1 || *count > layer->num_experts)
      o.refuse("1 to {} experts a token can be", layer->num_experts);
    Piece& selector = layer->router.selector;
    if (!selector.values.all().contains("top_k"))
      o.refuse("the selector {} has no fixed number of experts; --selector top_k:{} gives it one",
               selector.name, *count);
    selector.values.set("top_k", *count);
  }
}

Value value_of(const Override& o, const Parameter& parameter, const std::string& text) {
  if (std::holds_alternative<int64_t>(parameter.default_value)) {
    if (const auto whole = parse_number(text)) return *whole;
  } else if (std::holds_alternative<double>(parameter.default_value)) {
    try {
      size_t used = 0;
      const double number = std::stod(text, &used);
      if (used == text.size()) return number;
    } catch (const std::exception&) {
    }
  } else if (std::holds_alternative<std::string>(parameter.default_value)) {
    return text;
  }
  o.refuse("{} is {}", parameter.name, type_name(parameter.default_value));
}

/// "top_p:0.7": a selector and the value of its first parameter.
Piece parse_selector(const Override& o) {
  const size_t colon = o.value.find(':');
  const std::string name = o.value.substr(0, colon);
  const auto& entry = choice::selectors().at(name);
  std::map<std::string, Value> given;
  if (colon != std::string::npos) {
    if (entry.spec.parameters.empty()) o.refuse("{} has no parameters", name);
    const Parameter& first = entry.spec.parameters[0];
    given[first.name] = value_of(o, first, o.value.substr(colon + 1));
  }
  try {
    return make_piece(choice::selectors(), name, given);
  } catch (const Error& error) {
    o.refuse("{}", error.what());
  }
}

void set_selector(const Override& o) {
  const Piece selector = parse_selector(o);
  for (FeedForwardSpec* layer : o.layers) {
    Piece mine = selector;
    // A number of experts that is not given stays.
    const auto& before = layer->router.selector.values.all();
    const auto k = before.find("top_k");
    if (o.value.find(':') == std::string::npos && k != before.end() && mine.values.all().contains("top_k"))
      mine.values.set("top_k", k->second);
    layer->router.selector = std::move(mine);
    for (Piece& term : layer->router.balance) {  // the bound that was given holds as it is
      if (term.name == "expert_budget") term.values.set("experts_per_token", 0.0);
    }
    const std::vector<std::string> problems = router_problems(layer->router, layer->num_experts);
    if (!problems.empty()) o.refuse("{}", fmt::join(problems, "; "));
  }
}

}  // namespace

void apply(const RoutingOverrides& overrides, DecoderSpec& spec) {
  for (const std::string& given : overrides.selectors) set_selector(parse("--selector", given, false, spec));
  for (const std::string& given : overrides.experts_per_token)
    set_experts_per_token(parse("--experts-per-token", given, false, spec));
  for (const std::string& given : overrides.omit) add_decorator(parse("--omit", given, true, spec), "omit");
  for (const std::string& given : overrides.force)
    add_decorator(parse("--force", given, true, spec), "force");
}

}  // namespace gatewright

#include "routing_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gatewright/report/heat_map.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

constexpr size_t kUncertainShown = 12;
constexpr int64_t kUncertainLeastCount = 5;

const std::vector<double>& uncertain_shares() {
  static const std::vector<double> shares = {0.3, 0.2, 0.1, 0.05};
  return shares;
}

std::vector<std::string> expert_names(size_t experts) {
  std::vector<std::string> names;
  for (size_t e = 0; e < experts; ++e) names.push_back(fmt::format("{}", e));
  return names;
}

HeatMap domain_map(const RoutingAnalysis& analysis, const LayerAnalysis& layer) {
  HeatMap map{.column_names = expert_names(layer.load.size())};
  for (size_t d = 0; d < layer.domains.size(); ++d) {
    map.row_names.push_back(analysis.header().domains[d]);
    map.values.push_back(layer.domains[d]);
  }
  map.row_names.emplace_back("all");
  map.values.push_back(layer.load);
  return map;
}

/// "3", or "3 round 0" where a layer routes in several, or "3 heads" and "3 q_proj" of attention.
std::string layer_name(const std::vector<LayerAnalysis>& layers, const LayerAnalysis& layer) {
  if (!layer.part.empty()) return fmt::format("{} {}", layer.layer, layer.part);
  const auto of_layer = std::ranges::count_if(
      layers, [&](const LayerAnalysis& l) { return l.layer == layer.layer && l.part.empty(); });
  return of_layer > 1 ? fmt::format("{} round {}", layer.layer, layer.round) : fmt::format("{}", layer.layer);
}

struct Couple {
  size_t first, second;
  double share;
};

/// The two experts that go together most: share of the rarer one's tokens that visit both.
Couple closest(const LayerAnalysis& layer) {
  Couple best{0, 0, 0};
  for (size_t i = 0; i < layer.together.size(); ++i) {
    for (size_t j = 0; j < layer.together.size(); ++j) {
      if (i != j && layer.together[i][j] > best.share) best = {i, j, layer.together[i][j]};
    }
  }
  return best;
}

}  // namespace

std::string shown_token(const Tokenizer& tokenizer, int32_t id) {
  std::string text = "'";
  for (char c : tokenizer.token_bytes(id)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      text += "\\n";
    else if (c == '\t')
      text += "\\t";
    else if (byte < 0x20 || byte >= 0x7f)
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  return text + "'";
}

OrderedJson routing_json(const std::string& model, const RoutingAnalysis& analysis,
                         const Tokenizer* tokenizer) {
  OrderedJson json = {{"model", model}, {"tokens", analysis.tokens()}, {"layers", OrderedJson::array()}};
  for (const LayerAnalysis& l : analysis.layers()) {
    OrderedJson domains = OrderedJson::object(), visits = OrderedJson::object();
    for (size_t d = 0; d < l.domains.size(); ++d) {
      const std::string& name = analysis.header().domains[d];
      if (!std::isnan(l.domains[d].front())) domains[name] = l.domains[d];
      if (!std::isnan(l.domain_experts_per_token[d])) visits[name] = l.domain_experts_per_token[d];
    }
    json["layers"].push_back(
        {{"layer", l.layer},
         {"round", l.round},
         {"experts", l.load.size()},
         {"load", l.load},
         {"entropy", l.entropy},
         {"load_imbalance", l.load_imbalance},
         {"experts_per_token", l.experts_per_token},
         {"experts_per_token_by_domain", visits},
         {"tokens_by_experts", l.tokens_by_experts},
         {"domains", domains},
         {"mutual_information", {{"domain", l.domain_information}, {"token", l.token_information}}},
         {"margin", l.mean_margin},
         {"together", l.together}});
    if (!l.part.empty()) json["layers"].back()["part"] = l.part;
  }
  json["uncertain_tokens"] = OrderedJson::array();
  for (const UncertainToken& t : analysis.most_uncertain(kUncertainShown, kUncertainLeastCount)) {
    OrderedJson entry = {{"token", t.token}, {"count", t.count}, {"margin", t.margin}};
    if (tokenizer) entry["text"] = shown_token(*tokenizer, t.token);
    json["uncertain_tokens"].push_back(entry);
  }
  return json;
}

std::string domain_heat_maps(const RoutingAnalysis& analysis) {
  const bool colour = use_colour(Output::kStandard);
  std::string text;
  const std::vector<LayerAnalysis> layers = analysis.layers();
  for (const LayerAnalysis& layer : layers)
    text += fmt::format("layer {}: share of each domain's visits that go to each expert\n{}\n",
                        layer_name(layers, layer), draw(domain_map(analysis, layer), colour, 2));
  return text;
}

std::string routing_text(const RoutingAnalysis& analysis, const Tokenizer* tokenizer) {
  TextTable table({"layer", ">experts", ">per token", ">entropy", ">of at most", ">imbalance", ">info domain",
                   ">info token", ">margin", "go together"});
  const std::vector<LayerAnalysis> layers = analysis.layers();
  for (const LayerAnalysis& l : layers) {
    const Couple couple = closest(l);
    table.add({layer_name(layers, l), fmt::format("{}", l.load.size()),
               fmt::format("{:.2f}", l.experts_per_token), fmt::format("{:.3f}", l.entropy),
               fmt::format("{:.3f}", std::log2(static_cast<double>(l.load.size()))),
               fmt::format("{:.2f}", l.load_imbalance), fmt::format("{:.3f}", l.domain_information),
               fmt::format("{:.3f}", l.token_information), fmt::format("{:.3f}", l.mean_margin),
               couple.share > 0
                   ? fmt::format("{} with {} ({:.0f} %)", couple.first, couple.second, 100 * couple.share)
                   : ""});
  }
  std::string text = fmt::format("{} tokens; entropy and information in bits\n\n{}\n{}", analysis.tokens(),
                                 table.text(), domain_heat_maps(analysis));
  const auto uncertain = analysis.most_uncertain(kUncertainShown, kUncertainLeastCount);
  if (uncertain.empty()) return text;
  TextTable tokens({"token", ">count", ">mean margin"});
  for (const UncertainToken& t : uncertain)
    tokens.add({tokenizer ? shown_token(*tokenizer, t.token) : fmt::format("{}", t.token),
                fmt::format("{}", t.count), fmt::format("{:.4f}", t.margin)});
  return text + "the most uncertain routing (frequent tokens with the smallest margins):\n" + tokens.text(2);
}

OrderedJson uncertainty_json(const UncertaintySample& sample) {
  const auto by_share = [](const std::vector<double>& thresholds) {
    OrderedJson json = OrderedJson::object();
    for (size_t i = 0; i < thresholds.size(); ++i)
      json[fmt::format("{:g}", uncertain_shares()[i])] = thresholds[i];
    return json;
  };
  OrderedJson layers = OrderedJson::array();
  for (const UncertaintySample::Layer& l : sample.layers(uncertain_shares()))
    layers.push_back({{"layer", l.layer},
                      {"round", l.round},
                      {"mean", l.mean},
                      {"at_most", l.at_most},
                      {"thresholds", by_share(l.thresholds)}});
  return {{"layers", layers}, {"thresholds", by_share(sample.thresholds(uncertain_shares()))}};
}

std::string uncertainty_text(const UncertaintySample& sample) {
  std::vector<std::string> columns = {"layer", ">mean", ">at most"};
  for (double share : uncertain_shares()) columns.push_back(fmt::format(">{:g} %", 100 * share));
  TextTable table(columns);
  const auto add = [&](std::vector<std::string> row, const std::vector<double>& thresholds) {
    for (double threshold : thresholds) row.push_back(fmt::format("{:.4f}", threshold));
    table.add(row);
  };
  for (const UncertaintySample::Layer& l : sample.layers(uncertain_shares()))
    add({l.round > 0 ? fmt::format("{} round {}", l.layer, l.round) : fmt::format("{}", l.layer),
         fmt::format("{:.4f}", l.mean), fmt::format("{:.4f}", l.at_most)},
        l.thresholds);
  add({"all", "", ""}, sample.thresholds(uncertain_shares()));
  return "how undecided the routers are: entropy of a token's probabilities in nats, and the "
         "[routing.broadcast] "
         "threshold that\nso many tokens reach:\n" +
         table.text(2);
}

}  // namespace gatewright::command

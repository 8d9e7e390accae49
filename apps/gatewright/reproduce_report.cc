#include "reproduce_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "commit.h"
#include "gatewright/base/machine.h"
#include "gatewright/report/bar_chart.h"
#include "gatewright/report/table.h"

namespace gatewright::command {
namespace {

using experiments::Experiment;
using experiments::Finding;
using experiments::Results;

OrderedJson arms_json(const Results& results) {
  OrderedJson arms = OrderedJson::array();
  for (const experiments::Series& s : results.series())
    arms.push_back(
        {{"name", s.arm}, {"metric", s.metric}, {"mean", s.mean()}, {"low", s.low()}, {"high", s.high()}});
  return arms;
}

OrderedJson findings_json(const std::vector<Finding>& findings) {
  OrderedJson all = OrderedJson::array();
  for (const Finding& f : findings)
    all.push_back(
        {{"condition", f.condition}, {"measured", f.measured}, {"met", f.met}, {"direction", f.direction}});
  return all;
}

/// One row an arm, one column a metric.
std::string table_of(const Results& results) {
  std::vector<std::string> metrics, arms;
  const auto note_new = [](std::vector<std::string>& names, const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const experiments::Series& s : results.series()) note_new(metrics, s.metric), note_new(arms, s.arm);
  std::vector<std::string> headings = {"metric"};
  for (const std::string& arm : arms) headings.push_back(">" + arm);
  TextTable table(headings);
  for (const std::string& metric : metrics) {
    std::vector<std::string> row = {metric};
    for (const std::string& arm : arms) {
      std::string cell = "-";
      for (const experiments::Series& s : results.series()) {
        if (s.arm == arm && s.metric == metric)
          cell = s.values.size() < 2 ? fmt::format("{:.4f}", s.mean())
                                     : fmt::format("{:.4f} +- {:.4f}", s.mean(), s.high() - s.mean());
      }
      row.push_back(cell);
    }
    table.add(row);
  }
  return table.text(2);
}

std::string findings_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings)
    text += fmt::format("  {}  {}\n       {}\n",
                        f.met         ? "met    "
                        : f.direction ? "partly "
                                      : "not met",
                        f.condition, f.measured);
  return text;
}

/// "top-2 1.9880 [1.9650, 2.0110]; ...": the arms by the metric that they are tuned by.
std::string measured_text(const Experiment& e, const Results& results) {
  std::vector<std::string> arms;
  for (const experiments::Series& s : results.series()) {
    if (s.metric == e.tuned_by)
      arms.push_back(fmt::format("{} {:.4g} [{:.4g}, {:.4g}]", s.arm, s.mean(), s.low(), s.high()));
  }
  return fmt::format("{}: {}", e.tuned_by, fmt::join(arms, "; "));
}

/// A cell of a Markdown table.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, 1, '\\');
  return text;
}

std::string seeds_text(int64_t seeds) { return fmt::format("{} seed{}", seeds, seeds == 1 ? "" : "s"); }

}  // namespace

OrderedJson json_of(const Reproduction& r) {
  const Experiment& e = r.experiment;
  const std::vector<Finding> findings = e.judge(r.results);
  OrderedJson json = {{"slug", e.slug},
                      {"title", e.title},
                      {"source", e.source},
                      {"claim", e.claim},
                      {"published", e.published},
                      {"criterion", e.criterion},
                      {"verdict", experiments::verdict_of(findings)},
                      {"findings", findings_json(findings)},
                      {"measured", measured_text(e, r.results)},
                      {"seeds", r.seeds},
                      {"budget", r.budget},
                      {"arms", arms_json(r.results)}};
  if (!r.rates.empty()) {
    const std::vector<Finding> tuned = e.judge(r.tuned);
    json["tuned"] = {{"learning_rates", r.rates},
                     {"verdict", experiments::verdict_of(tuned)},
                     {"findings", findings_json(tuned)},
                     {"measured", measured_text(e, r.tuned)},
                     {"arms", arms_json(r.tuned)}};
  }
  json["seconds"] = r.seconds;
  json["commit"] = kCommit;
  json["machine"] = machine_description();
  return json;
}

std::string csv_of(const experiments::Results& results) {
  std::string csv = "arm,metric,mean,low,high,values\n";
  for (const experiments::Series& s : results.series()) {
    std::string values;
    for (double v : s.values) values += fmt::format("{}{}", values.empty() ? "" : " ", v);
    csv += fmt::format("\"{}\",\"{}\",{},{},{},{}\n", s.arm, s.metric, s.mean(), s.low(), s.high(), values);
  }
  return csv;
}

std::string chart_of(const Reproduction& r) {
  std::vector<Bar> bars;
  for (const experiments::Series& s : r.results.series()) {
    if (s.metric == r.experiment.tuned_by) bars.push_back({s.arm, s.mean(), s.low(), s.high()});
  }
  return bar_chart_svg(r.experiment.title + ": " + r.experiment.tuned_by, bars);
}

std::string text_of(const Reproduction& r) {
  const Experiment& e = r.experiment;
  const auto found = [&](const Results& results) {
    const std::vector<Finding> findings = e.judge(results);
    return fmt::format("{}\n{}verdict: {}", table_of(results), findings_text(findings),
                       experiments::verdict_of(findings));
  };
  std::string text =
      fmt::format("{}\n{}\n\nClaim: {}\nPublished: {}\n\nMeasured, {}, mean and 95 % interval:\n\n{}\n",
                  e.title, e.source, e.claim, e.published, seeds_text(r.seeds), found(r.results));
  if (r.rates.empty()) return text;
  text += "\nEvery arm at its best learning rate:\n";
  for (const auto& [arm, rate] : r.rates) text += fmt::format("  {}: {:g}\n", arm, rate);
  const bool turned =
      experiments::verdict_of(e.judge(r.results)) != experiments::verdict_of(e.judge(r.tuned));
  return text + "\n" + found(r.tuned) + (turned ? " (tuning turns it)\n" : "\n");
}

OrderedJson table_json(const std::vector<OrderedJson>& systems) {
  OrderedJson table = OrderedJson::array();
  for (const OrderedJson& system : systems) {
    OrderedJson row;
    for (const char* key :
         {"slug", "title", "source", "claim", "published", "criterion", "verdict", "measured", "findings",
          "arms", "tuned", "seeds", "budget", "seconds", "commit", "machine"}) {
      if (system.contains(key)) row[key] = system[key];
    }
    table.push_back(row);
  }
  return table;
}

std::string table_markdown(const OrderedJson& table) {
  const auto text = [](const OrderedJson& row, const char* key) {
    return cell(row.at(key).get<std::string>());
  };
  std::string page =
      "# Reproductions\n\n"
      "Each published system's claim, put to the test by `gatewright reproduce SYSTEM`, as measured; this "
      "page is what\n"
      "`gatewright reproduce --all` wrote. *Reproduced*: every condition of the system's experiment is met;\n"
      "*direction*: every effect has the right sign, not every size; else *not reproduced*. Intervals are 95 "
      "% of the mean\n"
      "over seeds. What each method is: [methods](methods/README.md).\n\n"
      "| system | claim | published | verdict | seeds | seconds |\n|---|---|---|---|---|---|\n";
  for (const OrderedJson& row : table) {
    std::string verdict = text(row, "verdict");
    if (row.contains("tuned")) verdict += fmt::format(" (tuned: {})", text(row["tuned"], "verdict"));
    page += fmt::format("| [{0}](methods/{0}.md) | {1} | {2} | **{3}** | {4} | {5:.0f} |\n",
                        text(row, "slug"), text(row, "claim"), text(row, "published"), verdict,
                        row.at("seeds").get<int64_t>(), row.at("seconds").get<double>());
  }
  for (const OrderedJson& row : table) {
    page += fmt::format(
        "\n## {}\n\n{}. Budget {}, {}, {:.0f} seconds; commit {}, {}.\n\nCounts as reproduced: {}.\n\n",
        text(row, "title"), text(row, "source"), text(row, "budget"),
        seeds_text(row.at("seeds").get<int64_t>()), row.at("seconds").get<double>(), text(row, "commit"),
        text(row, "machine"), text(row, "criterion"));
    page += "| condition | measured | |\n|---|---|---|\n";
    for (const OrderedJson& f : row.at("findings"))
      page += fmt::format("| {} | {} | {} |\n", text(f, "condition"), text(f, "measured"),
                          f.at("met").get<bool>()         ? "met"
                          : f.at("direction").get<bool>() ? "partly"
                                                          : "not met");
    page += fmt::format("\n{}\n", text(row, "measured"));
    if (row.contains("tuned")) {
      std::vector<std::string> rates;
      for (const auto& [arm, rate] : row["tuned"].at("learning_rates").items())
        rates.push_back(fmt::format("{} {:g}", arm, rate.get<double>()));
      page += fmt::format("\nEvery arm at its best learning rate ({}): {}. {}\n", fmt::join(rates, ", "),
                          text(row["tuned"], "verdict"), text(row["tuned"], "measured"));
    }
  }
  return page;
}

}  // namespace gatewright::command

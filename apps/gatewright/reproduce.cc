#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>

#include "experiments/experiment.h"
#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/base/nearest.h"
#include "gatewright/report/bar_chart.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

using experiments::Experiment;
using experiments::Finding;
using experiments::Recorder;
using experiments::Results;
using LearningRates = std::map<std::string, double>;

struct ReproduceArguments {
  std::string slug, budget = "fast", out = "reproductions";
  int seeds = 3;
  bool list = false, json = false, tune = false;
};

const Experiment& experiment_named(const std::string& slug) {
  std::vector<std::string> slugs;
  for (const Experiment& e : experiments::all_experiments()) {
    if (e.slug == slug) return e;
    slugs.push_back(e.slug);
  }
  fail_usage("there is no experiment '{}'{}; gatewright reproduce --list shows them", slug,
             did_you_mean(slug, slugs));
}

void list(const ReproduceArguments& a) {
  if (a.json) {
    OrderedJson all = OrderedJson::array();
    for (const Experiment& e : experiments::all_experiments())
      all.push_back({{"slug", e.slug},
                     {"title", e.title},
                     {"source", e.source},
                     {"claim", e.claim},
                     {"budget_seconds", e.budget_seconds}});
    return print(all.dump(2) + "\n");
  }
  TextTable table({"system", ">a seed", "claim"});
  for (const Experiment& e : experiments::all_experiments())
    table.add({e.slug, short_duration(e.budget_seconds), e.claim});
  print(table.text());
}

/// Runs seeds one after another and shows how far they are.
class Runner {
 public:
  Runner(const Experiment& experiment, double runs)
      : experiment_(experiment), progress_("reproduce " + experiment.slug, "runs", runs) {}

  std::vector<Recorder::Measured> run(uint64_t seed, const LearningRates& rates, std::string_view note) {
    Recorder recorder(
        [&](double done) {
          if (interrupted()) fail("interrupted; an experiment has nothing to go on with");
          progress_.update(runs_ + done, note);
        },
        rates);
    experiment_.run(seed, recorder);
    ++runs_;
    return recorder.measured();
  }
  void clear() { progress_.clear(); }

 private:
  const Experiment& experiment_;
  Progress progress_;
  double runs_ = 0;
};

constexpr double kGrid[] = {1.0 / 3, 1, 3};  // times the experiment's own learning rate
constexpr uint64_t kTuningSeed = 1000;       // none of the seeds that count

LearningRates tuned_rates(const Experiment& e, Runner& runner) {
  LearningRates best_rate, best_value;
  for (double factor : kGrid) {
    const double rate = e.learning_rate * factor;
    LearningRates all;
    for (const std::string& arm : e.arms) all[arm] = rate;
    for (const auto& m : runner.run(kTuningSeed, all, fmt::format("tuning: learning rate {:g}", rate))) {
      if (m.metric != e.tuned_by) continue;
      const auto known = best_value.find(m.arm);
      if (known != best_value.end() && known->second <= m.value) continue;
      best_value[m.arm] = m.value;
      best_rate[m.arm] = rate;
    }
  }
  return best_rate;
}

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

std::string csv_of(const Results& results) {
  std::string csv = "arm,metric,mean,low,high,values\n";
  for (const experiments::Series& s : results.series()) {
    std::string values;
    for (double v : s.values) values += fmt::format("{}{}", values.empty() ? "" : " ", v);
    csv += fmt::format("\"{}\",\"{}\",{},{},{},{}\n", s.arm, s.metric, s.mean(), s.low(), s.high(), values);
  }
  return csv;
}

std::string chart_of(const Experiment& e, const Results& results) {
  std::vector<Bar> bars;
  for (const experiments::Series& s : results.series()) {
    if (s.metric == e.tuned_by) bars.push_back({s.arm, s.mean(), s.low(), s.high()});
  }
  return bar_chart_svg(e.title + ": " + e.tuned_by, bars);
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

void reproduce(const ReproduceArguments& a) {
  if (a.list) return list(a);
  if (a.slug.empty()) fail_usage("which system? gatewright reproduce --list shows them");
  const Experiment& e = experiment_named(a.slug);
  if (a.budget == "full") fail("{} has the budget fast only", e.slug);
  constexpr uint64_t kRoom = 1 << 20;
  make_folder(a.out);
  check_room(a.out, kRoom, kRoom);
  catch_interrupts();
  const auto start = std::chrono::steady_clock::now();
  Runner runner(e, a.seeds + (a.tune ? a.seeds + static_cast<double>(std::size(kGrid)) : 0));
  Results results, tuned;
  for (int seed = 1; seed <= a.seeds; ++seed)
    results.add(runner.run(static_cast<uint64_t>(seed), {}, fmt::format("seed {}", seed)));
  LearningRates rates;
  if (a.tune) {
    rates = tuned_rates(e, runner);
    for (int seed = 1; seed <= a.seeds; ++seed)
      tuned.add(runner.run(static_cast<uint64_t>(seed), rates, fmt::format("tuned, seed {}", seed)));
  }
  runner.clear();
  const std::vector<Finding> findings = e.judge(results);
  OrderedJson json = {
      {"slug", e.slug},
      {"title", e.title},
      {"source", e.source},
      {"claim", e.claim},
      {"published", e.published},
      {"criterion", e.criterion},
      {"verdict", experiments::verdict_of(findings)},
      {"findings", findings_json(findings)},
      {"seeds", a.seeds},
      {"budget", a.budget},
      {"arms", arms_json(results)},
      {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
  std::string tuned_text;
  if (a.tune) {
    const std::vector<Finding> after = e.judge(tuned);
    const std::string verdict = experiments::verdict_of(after);
    json["tuned"] = {{"learning_rates", rates},
                     {"verdict", verdict},
                     {"findings", findings_json(after)},
                     {"arms", arms_json(tuned)}};
    tuned_text = "\nEvery arm at its best learning rate:\n";
    for (const auto& [arm, rate] : rates) tuned_text += fmt::format("  {}: {:g}\n", arm, rate);
    tuned_text += "\n" + table_of(tuned) + "\n" + findings_text(after) + "verdict: " + verdict +
                  (verdict == experiments::verdict_of(findings) ? "\n" : " (tuning turns it)\n");
  }
  const std::filesystem::path stem = std::filesystem::path(a.out) / e.slug;
  write_file(stem.string() + ".json", json.dump(2) + "\n");
  write_file(stem.string() + ".csv", csv_of(results));
  write_file(stem.string() + ".svg", chart_of(e, results));
  if (a.json) return print(json.dump(2) + "\n");
  print(fmt::format(
      "{}\n{}\n\nClaim: {}\nPublished: {}\n\nMeasured, {} seed{}, mean and 95 % interval:\n\n{}\n{}"
      "verdict: {}\n{}",
      e.title, e.source, e.claim, e.published, a.seeds, a.seeds == 1 ? "" : "s", table_of(results),
      findings_text(findings), json["verdict"].get<std::string>(), tuned_text));
  note(fmt::format("written: {0}.json, {0}.csv, {0}.svg", stem.string()));
}

}  // namespace

void add_reproduce(CLI::App& verb) {
  const auto a = std::make_shared<ReproduceArguments>();
  verb.add_option("SYSTEM", a->slug, "which system; --list shows them");
  verb.add_flag("--list", a->list, "the systems with their claims");
  verb.add_option("--seeds", a->seeds, "runs with different random numbers")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb.add_option("--budget", a->budget, "fast: at most 5 minutes a seed on two cores")
      ->check(CLI::IsMember({"fast", "full"}))
      ->capture_default_str();
  verb.add_flag("--tune", a->tune, "also with every arm's best learning rate of a grid");
  verb.add_option("--out", a->out, "folder for SYSTEM.json, .csv and .svg")->capture_default_str();
  verb.add_flag("--json", a->json, "print JSON");
  add_threads(verb);
  verb.callback([a] { reproduce(*a); });
}

}  // namespace gatewright::command

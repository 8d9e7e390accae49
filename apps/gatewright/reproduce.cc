#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "experiments/experiment.h"
#include "experiments/real_text.h"
#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/base/nearest.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "lab_verbs.h"
#include "reproduce_report.h"

namespace gatewright::command {
namespace {

using experiments::Experiment;
using experiments::FullBudget;
using experiments::Recorder;

struct ReproduceArguments {
  std::string slug, budget = "fast", data, out = "reproductions", docs = "docs";
  int seeds = 3;
  bool list = false, json = false, tune = false, all = false, restart = false;
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
                     {"budget_seconds", e.budget_seconds},
                     {"full_seconds", e.full_seconds}});
    return print(all.dump(2) + "\n");
  }
  TextTable table({"system", ">a seed", ">full", "claim"});
  for (const Experiment& e : experiments::all_experiments())
    table.add({e.slug, short_duration(e.budget_seconds), short_duration(e.full_seconds), e.claim});
  print(table.text());
}

/// The budget that was asked for; its text is read when it is first needed.
class Budget {
 public:
  explicit Budget(const ReproduceArguments& a) : a_(a) {}

  /// Null with the budget fast.
  const FullBudget* full() {
    if (a_.budget == "fast") return nullptr;
    if (!text_) {
      text_.emplace(folder(), events_);
      full_.emplace(FullBudget{.text = *text_});
    }
    return &*full_;
  }

 private:
  std::string folder() const {
    if (!a_.data.empty()) return a_.data;
    if (const char* given = std::getenv("GATEWRIGHT_DATA")) return given;
    fail_usage("the budget full trains on real text: --data FOLDER, or GATEWRIGHT_DATA, says where it is");
  }

  const ReproduceArguments& a_;
  Events events_;
  std::optional<experiments::RealText> text_;
  std::optional<FullBudget> full_;
};

/// Runs seeds one after another and shows how far they are.
class Runner {
 public:
  Runner(const Experiment& experiment, double runs, const FullBudget* full)
      : experiment_(experiment), progress_("reproduce " + experiment.slug, "runs", runs), full_(full) {}

  std::vector<Recorder::Measured> run(uint64_t seed, const LearningRates& rates, std::string_view note) {
    Recorder recorder(
        [&](double done) {
          if (interrupted()) fail("interrupted; an experiment has nothing to go on with");
          progress_.update(runs_ + done, note);
        },
        rates, full_);
    experiment_.run(seed, recorder);
    ++runs_;
    return recorder.measured();
  }
  void clear() { progress_.clear(); }

 private:
  const Experiment& experiment_;
  Progress progress_;
  const FullBudget* full_;
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

Reproduction run_experiment(const Experiment& e, const ReproduceArguments& a, Budget& budget) {
  const FullBudget* full = budget.full();
  const auto start = std::chrono::steady_clock::now();
  Runner runner(e, a.seeds + (a.tune ? a.seeds + static_cast<double>(std::size(kGrid)) : 0), full);
  Reproduction r{.experiment = e, .seeds = a.seeds, .budget = a.budget};
  for (int seed = 1; seed <= a.seeds; ++seed)
    r.results.add(runner.run(static_cast<uint64_t>(seed), {}, fmt::format("seed {}", seed)));
  if (a.tune) {
    r.rates = tuned_rates(e, runner);
    for (int seed = 1; seed <= a.seeds; ++seed)
      r.tuned.add(runner.run(static_cast<uint64_t>(seed), r.rates, fmt::format("tuned, seed {}", seed)));
  }
  runner.clear();
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return r;
}

/// Of the files of a budget, so that one does not write over the other.
std::string suffix_of(const ReproduceArguments& a) { return a.budget == "full" ? "-full" : ""; }

std::filesystem::path stem_of(const Experiment& e, const ReproduceArguments& a) {
  return std::filesystem::path(a.out) / (e.slug + suffix_of(a));
}

void write(const Reproduction& r, const OrderedJson& json, const ReproduceArguments& a) {
  const std::string stem = stem_of(r.experiment, a).string();
  write_file(stem + ".json", json.dump(2) + "\n");
  write_file(stem + ".csv", csv_of(r.results));
  write_file(stem + ".svg", chart_of(r));
}

void make_output_folder(const std::string& folder) {
  constexpr uint64_t kRoom = 1 << 20;
  make_folder(folder);
  check_room(folder, kRoom, kRoom);
}

/// What an earlier run left under the same settings; it names its commit.
std::optional<OrderedJson> found_before(const Experiment& e, const ReproduceArguments& a) {
  const std::filesystem::path file = stem_of(e, a).string() + ".json";
  if (a.restart || !std::filesystem::exists(file)) return std::nullopt;
  OrderedJson json = OrderedJson::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  const auto is = [&](const char* key, const OrderedJson& value) {
    return json.is_object() && json.contains(key) && json[key] == value;
  };
  if (!is("slug", e.slug) || !is("seeds", a.seeds) || !is("budget", a.budget) ||
      json.contains("tuned") != a.tune)
    return std::nullopt;
  return json;
}

void reproduce_all(const ReproduceArguments& a) {
  make_output_folder(a.out);
  make_output_folder(a.docs);
  catch_interrupts();
  std::vector<OrderedJson> systems;
  Budget budget(a);
  for (const Experiment& e : experiments::all_experiments()) {
    if (auto before = found_before(e, a)) {
      systems.push_back(std::move(*before));
      note(fmt::format("{}: {} (found in {})", e.slug, systems.back()["verdict"].get<std::string>(), a.out));
      continue;
    }
    const Reproduction r = run_experiment(e, a, budget);
    systems.push_back(json_of(r));
    write(r, systems.back(), a);
    note(fmt::format("{}: {} ({})", e.slug, systems.back()["verdict"].get<std::string>(),
                     short_duration(r.seconds)));
  }
  const OrderedJson table = table_json(systems);
  const std::string page = (std::filesystem::path(a.docs) / ("reproductions" + suffix_of(a))).string();
  write_file(page + ".json", table.dump(2) + "\n");
  write_file(page + ".md", table_markdown(table));
  if (a.json) print(table.dump(2) + "\n");
  note(fmt::format("written: {0}.md, {0}.json", page));
}

void reproduce(const ReproduceArguments& a) {
  if (a.list) return list(a);
  if (a.all && !a.slug.empty()) fail_usage("--all is every system: leave out {}", a.slug);
  if (a.all) return reproduce_all(a);
  if (a.slug.empty()) fail_usage("which system? gatewright reproduce --list shows them, --all runs all");
  const Experiment& e = experiment_named(a.slug);
  make_output_folder(a.out);
  catch_interrupts();
  Budget budget(a);
  const Reproduction r = run_experiment(e, a, budget);
  const OrderedJson json = json_of(r);
  write(r, json, a);
  if (a.json) return print(json.dump(2) + "\n");
  print(text_of(r));
  note(fmt::format("written: {0}.json, {0}.csv, {0}.svg", stem_of(e, a).string()));
}

}  // namespace

void add_reproduce(Options& verb) {
  const auto a = std::make_shared<ReproduceArguments>();
  verb.add("SYSTEM", a->slug, "which system; --list shows them");
  verb.flag("--list", a->list, "the systems with their claims");
  verb.flag("--all", a->all, "every system, and reproductions.md and .json in the folder --docs");
  verb.add("--seeds", a->seeds, "runs with different random numbers").range(1, 1000).show_default();
  verb.add("--budget", a->budget,
           "fast: at most 5 minutes a seed on two cores; full: language models on real text, at most 15")
      .one_of({"fast", "full"})
      .show_default();
  verb.add("--data", a->data, "folder with the text of the budget full; $GATEWRIGHT_DATA when left out");
  verb.flag("--tune", a->tune, "also with every arm's best learning rate of a grid");
  verb.add("--out", a->out, "folder for SYSTEM.json, .csv and .svg").show_default();
  verb.add("--docs", a->docs, "with --all, folder for the table of all systems").show_default();
  verb.flag("--restart", a->restart, "with --all, run again what is in --out already");
  verb.flag("--json", a->json, "print JSON");
  add_threads(verb);
  verb.run([a] { reproduce(*a); });
}

}  // namespace gatewright::command

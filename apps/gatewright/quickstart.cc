#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/report/terminal.h"
#include "gatewright/text/system_text.h"
#include "gatewright/train/train.h"
#include "model_folder.h"
#include "quickstart_plan.h"
#include "quickstart_report.h"
#include "routing_report.h"
#include "tensor_verbs.h"
#include "watcher.h"

namespace gatewright::command {
namespace {

namespace fs = std::filesystem;

struct QuickstartArguments {
  std::vector<std::string> data;
  std::string out = "quickstart-out";
  double minutes = 8;
  bool restart = false, dry_run = false, json = false;
};

Corpus read_text(const QuickstartArguments& a) {
  constexpr CorpusOptions kOptions = {.validation_share = 0.05, .most_validation_bytes = 400'000, .seed = 1};
  if (!a.data.empty()) return Corpus::read(as_paths(a.data), kOptions);
  note("looking for text on this machine: headers, modules, manuals, licences");
  return read_system_text(find_system_text(), {}, kOptions);
}

void remove_earlier(const fs::path& out) {
  for (const QuickstartRun& run : quickstart_runs()) fs::remove_all(out / run.name);
  for (const char* name : {"cache", "tokenizer.json", "plan.json", "summary.json"})
    fs::remove_all(out / name);
}

/// Before anything is written: somebody else's folder, another comparison, no room.
std::optional<QuickstartPlan> earlier_plan(const QuickstartArguments& a, const std::string& data) {
  const fs::path out = a.out;
  if (fs::exists(out) && !fs::is_directory(out)) fail("{} is a file; --out must be a folder", a.out);
  if (a.restart) return std::nullopt;
  const auto plan = read_plan(out);
  if (!plan) {
    if (fs::exists(out) && !fs::is_empty(out))
      fail("{} is not empty and holds no quickstart; give another --out", a.out);
    return std::nullopt;
  }
  if (plan->data != data || plan->minutes != a.minutes)
    fail("{} holds a comparison {}; give another --out, or --restart to throw it away", a.out,
         plan->data != data ? std::string("on other text")
                            : fmt::format("of {:g} minutes, not {:g}", plan->minutes, a.minutes));
  return plan;
}

[[noreturn]] void stop_here() { fail("stopped; the same command goes on from there"); }

class Quickstart {
 public:
  Quickstart(const QuickstartArguments& a, const Corpus& corpus, QuickstartPlan plan)
      : arguments_(a), out_(a.out), corpus_(corpus), plan_(std::move(plan)), watcher_(/*quiet=*/false) {}

  std::vector<RunResult> run() {
    const TrainingData data = prepare();
    if (plan_.steps == 0) decide_steps(plan_, data, watcher_);
    write_plan(out_, plan_);
    if (interrupted()) stop_here();
    std::vector<RunResult> results;
    for (const QuickstartRun& run : quickstart_runs()) {
      train(run, data);
      auto result = result_of(out_, run.name, data);
      if (!result) stop_here();
      results.push_back(std::move(*result));
    }
    write_file(out_ / "summary.json", summary_json(results, data.cache.domains()).dump(2) + "\n");
    if (!arguments_.json) show(results, data);
    return results;
  }

 private:
  TrainingData prepare() {
    const fs::path file = out_ / "tokenizer.json";
    const int64_t vocab_size = recipe_of(quickstart_runs()[0], {.steps = 1000}).model.vocab_size;
    Tokenizer tokenizer =
        fs::exists(file) ? Tokenizer::load(file) : train_tokenizer(corpus_, vocab_size, watcher_);
    if (!fs::exists(file)) write_file(file, tokenizer.to_json());
    TrainingData data = prepare_data(corpus_, std::move(tokenizer), out_ / "cache", watcher_);
    watcher_.clear();
    return data;
  }

  void train(const QuickstartRun& run, const TrainingData& data) {
    watcher_.note(fmt::format("\n{}: training {} steps", run.name, plan_.steps));
    const TrainOutcome outcome = train_model({.recipe = recipe_of(run, plan_),
                                              .out = out_ / run.name,
                                              .cache = out_ / "cache",
                                              .tokenizer = &data.tokenizer},
                                             corpus_, watcher_);
    watcher_.clear();
    if (outcome.kind == TrainOutcome::Kind::kInterrupted) stop_here();
  }

  void show(const std::vector<RunResult>& results, const TrainingData& data) const {
    print(fmt::format("\n{}\n", comparison_text(results, data.cache.domains())));
    const RunResult& mixture = results[1];
    print(fmt::format("How the {} model routes ({} validation tokens):\n\n{}", mixture.name,
                      mixture.routing->tokens(), domain_heat_maps(*mixture.routing)));
    print(fmt::format("What the {} model writes:\n\n{}", mixture.name,
                      samples_text(out_ / mixture.name, data)));
    print(next_steps());
  }

  std::string next_steps() const {
    const std::string data =
        arguments_.data.empty() ? "YOUR-TEXT" : fmt::format("{}", fmt::join(arguments_.data, " "));
    return fmt::format(
        "The models and summary.json are in {0}. What to try next:\n"
        "  gatewright inspect {0}/top-p --data {1}    how the other one routes\n"
        "  gatewright generate {0}/top-2 --prompt 'int main('\n"
        "  gatewright recipe quickstart-top-2 > my.toml       change the router, then\n"
        "  gatewright train my.toml --data {1} --out my-model\n"
        "  gatewright list                                    everything a recipe can name\n",
        arguments_.out, data);
  }

  const QuickstartArguments& arguments_;
  fs::path out_;
  const Corpus& corpus_;
  QuickstartPlan plan_;
  Watcher watcher_;
};

void check_room_for(const fs::path& out, const Corpus& corpus) {
  uint64_t bytes = 2 * static_cast<uint64_t>(corpus.bytes()), largest = bytes;
  for (const QuickstartRun& run : quickstart_runs()) {
    const uint64_t weights =
        4 * static_cast<uint64_t>(count_parameters(recipe_of(run, {.steps = 1000}).model).total);
    bytes += 4 * weights;
    largest = std::max(largest, 2 * weights);
  }
  check_room(out, bytes, largest);
}

void quickstart(const QuickstartArguments& a) {
  const Corpus corpus = read_text(a);
  tell_corpus(corpus);
  const std::string data = data_fingerprint(corpus, nullptr);
  const auto earlier = earlier_plan(a, data);
  if (a.dry_run) {
    note(fmt::format("{}; nothing was trained", earlier ? fmt::format("{} would go on", a.out)
                                                        : fmt::format("{} would be begun", a.out)));
    return;
  }
  const bool is_new = !fs::exists(a.out);
  make_folder(a.out);
  try {
    check_room_for(a.out, corpus);
  } catch (...) {
    std::error_code error;
    if (is_new) fs::remove(a.out, error);
    throw;
  }
  if (a.restart) remove_earlier(a.out);
  const QuickstartPlan plan = earlier ? *earlier : QuickstartPlan{.minutes = a.minutes, .data = data};
  write_plan(a.out, plan);
  catch_interrupts();
  const std::vector<RunResult> results = Quickstart(a, corpus, plan).run();
  if (a.json) print(summary_json(results, corpus.domains()).dump(2) + "\n");
}

}  // namespace

void add_quickstart(Options& verb) {
  const auto a = std::make_shared<QuickstartArguments>();
  verb.add("--data", a->data,
           "files and folders with text, top folders are domains; text of this machine when not given")
      .several();
  verb.add("--out", a->out, "folder of the models and summary.json").show_default();
  verb.add("--minutes", a->minutes, "time it may take, for all three models together")
      .range(0.05, 100000.0)
      .show_default();
  verb.flag("--restart", a->restart, "throw away the comparison in the folder and begin anew");
  verb.flag("--dry-run", a->dry_run, "look at the text and train nothing");
  verb.flag("--json", a->json, "print summary.json");
  add_threads(verb);
  verb.run([a] { quickstart(*a); });
}

}  // namespace gatewright::command

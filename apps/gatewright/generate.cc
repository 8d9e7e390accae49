#include "gatewright/evaluate/generate.h"

#include <fmt/format.h>

#include <memory>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/drafter.h"
#include "gatewright/report/terminal.h"
#include "model_folder.h"
#include "sampling_options.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct GenerateArguments {
  std::string model, prompt, device = "auto";
  GenerateOptions options;
  std::string draft;
  DraftBranches branches;
  bool json = false, no_stop = false;
  RoutingOverrides overrides;
};

bool same_vocabulary(const Tokenizer& a, const Tokenizer& b) {
  if (a.vocab_size() != b.vocab_size()) return false;
  for (int32_t id = 0; id < static_cast<int32_t>(a.vocab_size()); ++id) {
    if (a.token_bytes(id) != b.token_bytes(id)) return false;
  }
  return true;
}

/// Who drafts, and how often that was right.
class Drafting {
 public:
  Drafting(const GenerateArguments& a, const Tokenizer& tokenizer) {
    if (a.draft == "lookup") {
      drafter_ = std::make_unique<LookupDrafter>(LookupDrafter::kLongest, a.branches.branches);
    } else if (!a.draft.empty()) {
      model_.emplace(load_model(a.draft, a.device));
      if (!same_vocabulary(model_->tokenizer, tokenizer))
        fail_usage("{} has another vocabulary than {}: its tokens mean something else", a.draft, a.model);
      drafter_ = std::make_unique<ModelDrafter>(model_->decoder, a.branches);
    }
  }
  void take_part(GenerateOptions& options) {
    options.drafter = drafter_.get();
    if (!drafter_) return;
    options.checked = [&](const CheckedDraft& pass) {
      ++passes_;
      drafted_ += pass.drafted;
      accepted_ += pass.accepted;
      experts_ += pass.experts_in_use;
    };
  }
  explicit operator bool() const { return drafter_ != nullptr; }
  double experts_in_use() const { return passes_ > 0 ? experts_ / static_cast<double>(passes_) : 0; }
  OrderedJson json() const {
    return {{"passes", passes_},
            {"drafted", drafted_},
            {"accepted", accepted_},
            {"experts_in_use", experts_in_use()}};
  }
  std::string text() const {
    const std::string experts =
        experts_ > 0 ? fmt::format("; {:.1f} experts of a layer in use in a pass", experts_in_use()) : "";
    return fmt::format("{} of {} drafted tokens were right, in {} passes{}", accepted_, drafted_, passes_,
                       experts);
  }

 private:
  std::optional<Model> model_;
  std::unique_ptr<Drafter> drafter_;
  int64_t passes_ = 0, drafted_ = 0, accepted_ = 0;
  double experts_ = 0;
};

void run(const GenerateArguments& a) {
  Model model = load_model(a.model, a.device, a.overrides);
  std::string text = a.prompt == "-" ? read_file("-") : a.prompt;
  std::vector<int32_t> prompt;
  // Documents of our own training begin with the end-of-text token; published tokenizers say it themselves.
  const bool published = !model.decoder.spec().family.empty();
  if (const auto end = model.tokenizer.end_of_text(); end && !published) prompt.push_back(*end);
  model.tokenizer.encode(text, prompt, {.add_special = published});
  if (prompt.empty()) fail_usage("the prompt is empty");
  GenerateOptions options = a.options;
  options.num_ids = model.tokenizer.vocab_size();
  for (const auto end : {model.tokenizer.end_of_text(), model.tokenizer.end()}) {
    if (end && !a.no_stop) options.stop.push_back(*end);
  }
  Drafting drafting(a, model.tokenizer);
  drafting.take_part(options);
  catch_interrupts();
  // Nothing is drawn after the text has begun where a person sees it, which is its own progress.
  const bool seen = !a.json && is_terminal(Output::kStandard);
  std::optional<Progress> progress(std::in_place, "reading", "tokens", static_cast<double>(prompt.size()));
  options.reading = [&](int64_t done, int64_t) { progress->update(static_cast<double>(done)); };
  bool begun = false;
  const auto begin = [&] {
    progress.reset();
    if (!a.json) print(text);
    if (!seen) progress.emplace("writing", "tokens", static_cast<double>(options.max_tokens));
    begun = true;
  };
  int64_t written = 0;
  const std::vector<int32_t> tokens = generate(model.decoder, prompt, options, [&](int32_t token) {
    if (!begun) begin();
    if (!a.json) print(model.tokenizer.token_bytes(token));
    if (progress) progress->update(static_cast<double>(++written));
    return true;
  });
  if (!begun) begin();
  progress.reset();
  if (!a.json) {
    print("\n");
    if (drafting) note(drafting.text());
    return;
  }
  OrderedJson json = {{"prompt", text}, {"tokens", tokens}, {"text", model.tokenizer.decode(tokens)}};
  if (drafting) json["draft"] = drafting.json();
  print(json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

}  // namespace

void add_generate(Options& verb) {
  const auto a = std::make_shared<GenerateArguments>();
  GenerateOptions& o = a->options;
  verb.add("MODEL", a->model, "model folder, GGUF file, or name of a model in the cache folder").required();
  verb.add("--prompt", a->prompt, "text to continue; - reads standard input").required();
  verb.add("--tokens", o.max_tokens, "tokens at most").range(1, 1 << 20).show_default();
  add_sampling(verb, o.sampling, o.seed);
  verb.add("--draft", a->draft,
           "who proposes tokens that are checked several at a time: lookup (what followed the same tokens "
           "before) or "
           "a smaller model with the same vocabulary; the text stays the same");
  verb.add("--draft-tokens", o.draft_tokens, "tokens proposed at a time, at most")
      .range(1, kLargestTokenTree - 1)
      .show_default();
  verb.add("--draft-branches", a->branches.branches,
           "propose a tree: so many tokens go on at each level of a drafting model, or so many places of a "
           "lookup")
      .range(1, 16)
      .show_default();
  verb.add("--draft-depth", a->branches.depth, "levels of a drafting model's tree")
      .range(1, 16)
      .show_default();
  verb.flag("--no-stop", a->no_stop, "go on after the end of the text");
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print JSON when it is done");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command

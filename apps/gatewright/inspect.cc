#include <fmt/format.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/routing_analysis.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/validation.h"
#include "model_folder.h"
#include "routing_report.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct InspectArguments {
  std::string model, trace, device = "auto";
  std::vector<std::string> data;
  int64_t sequence_length = 256, batch_size = 8, tokens = 200'000;
  bool json = false;
  RoutingOverrides overrides;
};

/// Before the work: whether a trace of about its size can be written.
void check_trace_room(const InspectArguments& a, int64_t layers) {
  constexpr int64_t kBytesPerChoice = 16;  // a few experts with their weights, and the margin
  const auto size = static_cast<uint64_t>(a.tokens * layers * kBytesPerChoice);
  const std::filesystem::path parent = std::filesystem::path(a.trace).parent_path();
  check_room(parent.empty() ? "." : parent, size, size);
}

RoutingAnalysis analyse_model(const InspectArguments& a, Model& model) {
  if (a.data.empty()) fail_usage("--data is missing: the text to look at the routing on");
  TraceHeader header = trace_header(model.decoder.spec(), {});
  if (header.layers.empty()) fail("{} is a dense model: no layer routes", a.model);
  if (!a.trace.empty()) check_trace_room(a, std::ssize(header.layers));
  const TextForModel text(a.data, model.tokenizer);
  header.domains = text.cache().domains();
  ValidationStream stream = text.stream(a.sequence_length, a.tokens);
  RoutingAnalysis analysis(header);
  std::optional<TraceWriter> writer;
  if (!a.trace.empty()) writer.emplace(a.trace, header);
  Progress progress("looking", "sequences", static_cast<double>(stream.sequences()));
  int64_t done = 0;
  validate_on(model.decoder, stream, a.batch_size, static_cast<int64_t>(header.domains.size()),
              [&](const PackedBatch& packed, const DecoderOutput& output) {
                const TraceBatch batch = trace_of(packed, output.routing);
                analysis.add(batch);
                if (writer) writer->add(batch);
                progress.update(static_cast<double>(done += packed.sequences));
              });
  if (interrupted()) fail("interrupted before the end of the text");
  if (writer) writer->finish();
  return analysis;
}

RoutingAnalysis analyse_trace(const std::string& path) {
  TraceReader reader(path);
  RoutingAnalysis analysis(reader.header());
  while (const auto batch = reader.next()) analysis.add(*batch);
  return analysis;
}

void inspect(const InspectArguments& a) {
  if (std::filesystem::is_regular_file(a.model) && is_trace(a.model))
    return print(a.json ? routing_json(a.model, analyse_trace(a.model), nullptr).dump(2) + "\n"
                        : routing_text(analyse_trace(a.model), nullptr));
  Model model = load_model(a.model, a.device, a.overrides);
  const RoutingAnalysis analysis = analyse_model(a, model);
  print(a.json ? routing_json(a.model, analysis, &model.tokenizer).dump(2) + "\n"
               : routing_text(analysis, &model.tokenizer));
}

}  // namespace

void add_inspect(Options& verb) {
  const auto a = std::make_shared<InspectArguments>();
  verb.add("MODEL", a->model,
           "model folder, GGUF file, name of a model in the cache folder, or a trace that was written before")
      .required();
  verb.add("--data", a->data, "files and folders with text; top folders are domains").several();
  verb.add("--tokens", a->tokens, "about this many tokens, evenly spread; 0: all")
      .not_negative()
      .show_default();
  verb.add("--sequence-length", a->sequence_length, "tokens of context at most")
      .range(2, 1 << 20)
      .show_default();
  verb.add("--batch-size", a->batch_size, "sequences at once").range(1, 1 << 16).show_default();
  verb.add("--trace", a->trace, "also write every choice into this file (docs/trace-format.md)");
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print JSON");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { inspect(*a); });
}

}  // namespace gatewright::command

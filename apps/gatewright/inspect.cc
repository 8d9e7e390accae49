#include <fmt/format.h>

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/routing_analysis.h"
#include "gatewright/evaluate/trace_of.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/packed_tensors.h"
#include "gatewright/train/validation.h"
#include "layer_list.h"
#include "model_folder.h"
#include "routing_report.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct InspectArguments {
  std::string model, trace, layers, device = "auto";
  std::vector<std::string> data;
  int64_t sequence_length = 256, batch_size = 8, tokens = 200'000;
  bool uncertainty = false, json = false;
  RoutingOverrides overrides;
};

/// Before the work: whether a trace of about its size can be written.
void check_trace_room(const InspectArguments& a, int64_t layers) {
  constexpr int64_t kBytesPerChoice = 16;  // a few experts with their weights, and the margin
  const auto size = static_cast<uint64_t>(a.tokens * layers * kBytesPerChoice);
  const std::filesystem::path parent = std::filesystem::path(a.trace).parent_path();
  check_room(parent.empty() ? "." : parent, size, size);
}

/// Which entries of a header belong to the layers asked for.
std::vector<size_t> entries_of(const InspectArguments& a, const TraceHeader& header, int64_t num_layers) {
  const std::vector<int64_t> asked = parse_layers(a.layers, num_layers);
  std::vector<size_t> entries;
  for (size_t i = 0; i < header.layers.size(); ++i) {
    if (asked.empty() || std::ranges::find(asked, header.layers[i].layer) != asked.end())
      entries.push_back(i);
  }
  if (entries.empty() && !header.layers.empty())
    fail_usage("--layers {}: none of these layers routes; the first that does is {}", a.layers,
               header.layers[0].layer);
  return entries;
}

template <typename T>
std::vector<T> kept(std::vector<T>& all, const std::vector<size_t>& entries) {
  std::vector<T> some;
  for (const size_t i : entries) some.push_back(std::move(all[i]));
  return some;
}

/// Runs the layers up to the last one asked for over the text, without the head.
void for_each_batch(Decoder& decoder, ValidationStream& stream, int64_t batch_size, int64_t layers,
                    const SeeBatch& see) {
  const at::NoGradGuard no_grad;
  while (!interrupted()) {
    const PackedBatch packed = stream.next(batch_size);
    if (packed.sequences == 0) return;
    see(packed, decoder.forward(to_batch(packed, decoder.device()), {.layers = layers}));
  }
  fail("interrupted before the end of the text");
}

/// Those of the entries that are not in attention, which come last.
std::vector<RoutingRecord> of_feed_forwards(const DecoderOutput& output, const std::vector<size_t>& entries) {
  std::vector<RoutingRecord> records;
  for (const size_t i : entries) {
    if (i < output.routing.size()) records.push_back(output.routing[i]);
  }
  return records;
}

/// Tokens that do not fill up the last sequence: bool [T].
Tensor real_tokens(const PackedBatch& packed) {
  return at::tensor(at::ArrayRef<int32_t>(packed.targets), at::kInt).ge(0);
}

/// `undecided`, when not null, sees the same batches.
RoutingAnalysis analyse_model(const InspectArguments& a, Model& model, UncertaintySample* undecided) {
  if (a.data.empty()) fail_usage("--data is missing: the text to look at the routing on");
  TraceHeader header = trace_header(model.decoder.spec(), {});
  if (header.layers.empty()) fail("{} is a dense model: no layer routes", a.model);
  const std::vector<size_t> entries = entries_of(a, header, model.decoder.spec().num_layers());
  header.layers = kept(header.layers, entries);
  if (!a.trace.empty()) check_trace_room(a, std::ssize(header.layers));
  const int64_t layers = std::ranges::max_element(header.layers, {}, &TraceLayer::layer)->layer + 1;
  const TextForModel text(a.data, model.tokenizer);
  header.domains = text.cache().domains();
  ValidationStream stream = text.stream(a.sequence_length, a.tokens);
  RoutingAnalysis analysis(header);
  std::optional<TraceWriter> writer;
  if (!a.trace.empty()) writer.emplace(a.trace, header);
  Progress progress("looking", "sequences", static_cast<double>(stream.sequences()));
  int64_t done = 0;
  for_each_batch(model.decoder, stream, a.batch_size, layers,
                 [&](const PackedBatch& packed, const DecoderOutput& output) {
                   std::vector<RoutingRecord> records = traced_records(output);
                   if (undecided) undecided->add(of_feed_forwards(output, entries), real_tokens(packed));
                   const TraceBatch batch = trace_of(packed, kept(records, entries));
                   analysis.add(batch);
                   if (writer) writer->add(batch);
                   progress.update(static_cast<double>(done += packed.sequences));
                 });
  if (writer) writer->finish();
  return analysis;
}

RoutingAnalysis analyse_trace(const InspectArguments& a) {
  TraceReader reader(a.model);
  TraceHeader header = reader.header();
  int64_t num_layers = 0;
  for (const TraceLayer& layer : header.layers) num_layers = std::max(num_layers, layer.layer + 1);
  const std::vector<size_t> entries = entries_of(a, header, num_layers);
  header.layers = kept(header.layers, entries);
  RoutingAnalysis analysis(std::move(header));
  while (auto batch = reader.next()) {
    batch->layers = kept(batch->layers, entries);
    analysis.add(*batch);
  }
  return analysis;
}

void inspect_trace(const InspectArguments& a) {
  if (a.uncertainty) fail_usage("--uncertainty needs a model and --data: a trace has choices, not scores");
  const RoutingAnalysis analysis = analyse_trace(a);
  print(a.json ? routing_json(a.model, analysis, nullptr).dump(2) + "\n" : routing_text(analysis, nullptr));
}

void inspect(const InspectArguments& a) {
  if (std::filesystem::is_regular_file(a.model) && is_trace(a.model)) return inspect_trace(a);
  Model model = load_model(a.model, a.device, a.overrides);
  UncertaintySample undecided;
  const RoutingAnalysis analysis = analyse_model(a, model, a.uncertainty ? &undecided : nullptr);
  if (a.json) {
    OrderedJson json = routing_json(a.model, analysis, &model.tokenizer);
    if (a.uncertainty) json["uncertainty"] = uncertainty_json(undecided);
    return print(json.dump(2) + "\n");
  }
  print(routing_text(analysis, &model.tokenizer));
  if (!a.uncertainty) return;
  print("\n");
  print(uncertainty_text(undecided));
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
  verb.add("--layers", a->layers, "layers to look at, such as 0,3,8-15; those behind are not computed");
  verb.add("--sequence-length", a->sequence_length, "tokens of context at most")
      .range(2, 1 << 20)
      .show_default();
  verb.add("--batch-size", a->batch_size, "sequences at once").range(1, 1 << 16).show_default();
  verb.add("--trace", a->trace, "also write every choice into this file (docs/trace-format.md)");
  verb.flag("--uncertainty", a->uncertainty,
            "also how undecided each router is, to choose the threshold of [routing.broadcast] by");
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print JSON");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { inspect(*a); });
}

}  // namespace gatewright::command

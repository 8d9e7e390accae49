#include "gatewright/formats/imatrix.h"

#include <fmt/format.h>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/calibration.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/families/model_file.h"
#include "gatewright/report/terminal.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct ImatrixArguments {
  std::string model, out;
  std::vector<std::string> data;
  int64_t sequence_length = 512, batch_size = 4, tokens = 100'000, least = 64;
  bool json = false;
};

void run(const ImatrixArguments& a) {
  constexpr uint64_t kLikelySize = 64 << 20;
  const std::filesystem::path out = a.out;
  check_room(out.has_parent_path() ? out.parent_path() : ".", kLikelySize, kLikelySize);
  const std::filesystem::path path = find_model(a.model);
  if (!is_published_model(path))
    fail_usage("{} is no file of a published model; `gatewright convert` makes one", path.string());
  const ModelFile file(path);
  Model model = load_model(file, "cpu");
  const TextForModel text(a.data, model.tokenizer);
  ValidationStream stream = text.stream(a.sequence_length, a.tokens);
  Progress progress("calibrating", "sequences", static_cast<double>(stream.sequences()));
  ImportanceMatrix matrix = calibrate(model.decoder, file.tensors(), stream, a.batch_size,
                                      [&](int64_t done) { progress.update(static_cast<double>(done)); });
  progress.clear();
  if (interrupted()) fail("interrupted before the end of the text");
  matrix.datasets = a.data;
  write_imatrix(out, matrix);
  const std::vector<std::string> little = little_seen(matrix, a.least);
  if (a.json)
    return print(OrderedJson({{"out", a.out},
                              {"weights", matrix.weights.size()},
                              {"sequences", matrix.chunk_count},
                              {"little_seen", little}})
                     .dump(2) +
                 "\n");
  note(fmt::format("{}: {} weights, {} sequences of {} tokens", a.out, matrix.weights.size(),
                   matrix.chunk_count, a.sequence_length));
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(little.size(), kShown); ++i) note("warning: " + little[i]);
  if (little.size() > kShown)
    note(fmt::format("warning: and {} more experts saw fewer than {} rows; more text, or --json lists them",
                     little.size() - kShown, a.least));
}

}  // namespace

void add_imatrix(Options& verb) {
  const auto a = std::make_shared<ImatrixArguments>();
  verb.add("MODEL", a->model, "GGUF file, model folder, or name of a model in the cache folder").required();
  verb.add("--data", a->data, "files and folders with calibration text").required().several();
  verb.add("--out", a->out, "imatrix.gguf to write").required();
  verb.add("--tokens", a->tokens, "about this many tokens, evenly spread; 0: all")
      .not_negative()
      .show_default();
  verb.add("--sequence-length", a->sequence_length, "tokens of context at most")
      .range(2, 1 << 20)
      .show_default();
  verb.add("--batch-size", a->batch_size, "sequences at once").range(1, 1 << 16).show_default();
  verb.add("--least", a->least, "an expert that saw fewer rows is named").not_negative().show_default();
  verb.flag("--json", a->json, "print the result as JSON");
  add_threads(verb);
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command

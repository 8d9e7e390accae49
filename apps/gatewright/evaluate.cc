#include <fmt/format.h>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/validation.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct EvaluateArguments {
  std::string model, device = "auto";
  std::vector<std::string> data;
  int64_t sequence_length = 256, batch_size = 8, tokens = 0;
  bool json = false;
};

OrderedJson loss_json(const TextLoss& l) {
  return {{"tokens", l.tokens},
          {"bytes", l.bytes},
          {"loss", l.loss()},
          {"perplexity", l.perplexity()},
          {"bits_per_byte", l.bits_per_byte()}};
}

std::vector<std::string> row_of(const std::string& name, const TextLoss& l) {
  return {name, fmt::format("{}", l.tokens), fmt::format("{}", l.bytes),
          fmt::format("{:.2f}", l.perplexity()), fmt::format("{:.4f}", l.bits_per_byte())};
}

void evaluate(const EvaluateArguments& a) {
  Model model = load_model(a.model, a.device);
  const TextForModel text(a.data, model.tokenizer);
  ValidationStream stream = text.stream(a.sequence_length, a.tokens);
  const auto& domains = text.cache().domains();
  Progress progress("evaluating", "sequences", static_cast<double>(stream.sequences()));
  int64_t done = 0;
  const ValidationResult result =
      validate_on(model.decoder, stream, a.batch_size, std::ssize(domains),
                  [&](const PackedBatch& packed, const DecoderOutput&) {
                    progress.update(static_cast<double>(done += packed.sequences));
                  });
  progress.clear();
  if (interrupted()) fail("interrupted before the end of the text");
  if (a.json) {
    OrderedJson json = {{"model", a.model}};
    json.update(loss_json(result.all));
    json["domains"] = OrderedJson::object();
    for (size_t d = 0; d < domains.size(); ++d) json["domains"][domains[d]] = loss_json(result.domains[d]);
    if (!result.routing.empty()) {
      json["experts_per_token"] = result.routing.experts_per_token();
      json["load_imbalance"] = result.routing.load_imbalance();
    }
    return print(json.dump(2) + "\n");
  }
  TextTable table({"domain", ">tokens", ">bytes", ">perplexity", ">bits per byte"});
  for (size_t d = 0; d < domains.size(); ++d) table.add(row_of(domains[d], result.domains[d]));
  table.add(row_of("all", result.all));
  print(table.text());
  if (!result.routing.empty())
    print(fmt::format("experts per token {:.2f}, load imbalance {:.2f}\n", result.routing.experts_per_token(),
                      result.routing.load_imbalance()));
}

}  // namespace

void add_evaluate(Options& verb) {
  const auto a = std::make_shared<EvaluateArguments>();
  verb.add("MODEL", a->model, "model folder").required();
  verb.add("--data", a->data, "files and folders with text; top folders are domains").required().several();
  verb.add("--sequence-length", a->sequence_length, "tokens of context at most")
      .range(2, 1 << 20)
      .show_default();
  verb.add("--batch-size", a->batch_size, "sequences at once").range(1, 1 << 16).show_default();
  verb.add("--tokens", a->tokens, "about this many tokens, evenly spread; 0: all")
      .not_negative()
      .show_default();
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print JSON");
  add_threads(verb);
  verb.run([a] { evaluate(*a); });
}

}  // namespace gatewright::command

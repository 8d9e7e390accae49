#include <fmt/format.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/evaluate/comparison.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"
#include "gatewright/train/validation.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct EvaluateArguments {
  std::string model, against, device = "auto";
  std::vector<std::string> data;
  int64_t sequence_length = 256, batch_size = 8, tokens = 0;
  bool json = false;
  RoutingOverrides overrides;
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

OrderedJson to_json(const Comparison& c) {
  return {{"tokens", c.tokens()},
          {"mean_kl", c.mean_kl()},
          {"kl_percentiles",
           {{"50", c.kl_percentile(0.5)},
            {"90", c.kl_percentile(0.9)},
            {"99", c.kl_percentile(0.99)},
            {"99.9", c.kl_percentile(0.999)},
            {"100", c.kl_percentile(1)}}},
          {"same_first_choice", c.agreement()},
          {"same_experts", c.expert_agreement()},
          {"perplexity", std::exp(c.loss)},
          {"perplexity_of_the_other", std::exp(c.reference_loss)}};
}

void print_comparison(const Comparison& c, const EvaluateArguments& a) {
  print(fmt::format("{} against {}, {} tokens\n", a.model, a.against, c.tokens()));
  print(fmt::format(
      "KL divergence  mean {:.5f}, median {:.5f}, 90 % below {:.5f}, 99 % {:.5f}, largest {:.5f} nats\n",
      c.mean_kl(), c.kl_percentile(0.5), c.kl_percentile(0.9), c.kl_percentile(0.99), c.kl_percentile(1)));
  print(fmt::format("first choice   the same for {:.2f} % of the tokens\n", 100 * c.agreement()));
  if (c.chosen > 0)
    print(fmt::format("experts        {:.2f} % of those chosen are the same\n", 100 * c.expert_agreement()));
  print(fmt::format("perplexity     {:.4f}, the other {:.4f} ({:+.3f} %)\n", std::exp(c.loss),
                    std::exp(c.reference_loss), 100 * (std::exp(c.loss - c.reference_loss) - 1)));
}

/// Both models read the text as the first one's tokenizer cuts it.
void compare(const EvaluateArguments& a) {
  Model model = load_model(a.model, a.device, a.overrides);
  Decoder reference = load_decoder_only(a.against, a.device, {});
  const TextForModel text(a.data, model.tokenizer);
  ValidationStream stream = text.stream(a.sequence_length, a.tokens);
  Progress progress("comparing", "sequences", static_cast<double>(stream.sequences()));
  const Comparison comparison =
      compare_models(model.decoder, reference, stream, a.batch_size,
                     [&](int64_t done) { progress.update(static_cast<double>(done)); });
  progress.clear();
  if (interrupted()) fail("interrupted before the end of the text");
  if (a.json) return print(to_json(comparison).dump(2) + "\n");
  print_comparison(comparison, a);
}

void evaluate(const EvaluateArguments& a) {
  if (!a.against.empty()) return compare(a);
  Model model = load_model(a.model, a.device, a.overrides);
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
  verb.add("MODEL", a->model, "model folder, GGUF file, or name of a model in the cache folder").required();
  verb.add("--data", a->data, "files and folders with text; top folders are domains").required().several();
  verb.add("--against", a->against,
           "another model: how far the predictions and the chosen experts are from its");
  verb.add("--sequence-length", a->sequence_length, "tokens of context at most")
      .range(2, 1 << 20)
      .show_default();
  verb.add("--batch-size", a->batch_size, "sequences at once").range(1, 1 << 16).show_default();
  verb.add("--tokens", a->tokens, "about this many tokens, evenly spread; 0: all")
      .not_negative()
      .show_default();
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json, "print JSON");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { evaluate(*a); });
}

}  // namespace gatewright::command

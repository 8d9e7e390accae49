#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core_verbs.h"
#include "gatewright/base/json.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/models/families/summary.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

struct ShowArguments {
  std::string model;
  bool json = false, tensors = false;
};

OrderedJson to_json(const ModelSummary& s, bool with_tensors) {
  OrderedJson json = {{"architecture", s.architecture},
                      {"name", s.name},
                      {"format", s.format},
                      {"runs", s.runs},
                      {"layers", s.layers},
                      {"routed_layers", s.routed_layers},
                      {"experts", s.experts},
                      {"experts_per_token", s.experts_per_token},
                      {"gate", s.gate},
                      {"parameters", s.parameters},
                      {"active_parameters", s.active_parameters},
                      {"file_bytes", s.file_bytes},
                      {"tokenizer", s.tokenizer},
                      {"chat_template", s.chat_template},
                      {"notes", s.notes}};
  if (!s.why_not.empty()) json["why_not"] = s.why_not;
  for (const auto& [name, type] : s.types)
    json["types"][name] = {{"tensors", type.tensors}, {"values", type.values}, {"bytes", type.bytes}};
  json["tensors"] = OrderedJson::array();
  for (const TensorSummary& t : s.tensors) {
    if (!with_tensors) break;
    json["tensors"].push_back(
        {{"name", t.name}, {"shape", t.shape}, {"type", data_type_name(t.type)}, {"bytes", t.bytes}});
  }
  return json;
}

void row(const char* name, const std::string& value) {
  if (!value.empty()) print(fmt::format("{:<14}{}\n", name, value));
}

void print_summary(const ModelSummary& s, bool with_tensors) {
  row("name", s.name);
  row("architecture", s.architecture);
  row("format", fmt::format("{}, {}", s.format, short_size(static_cast<double>(s.file_bytes))));
  std::string layers = fmt::format("{}", s.layers);
  if (s.routed_layers > 0 && s.routed_layers < s.layers)
    layers += fmt::format(", {} of them routed", s.routed_layers);
  row("layers", layers);
  row("experts", s.experts > 0 ? fmt::format("{} a layer, {} of them a token", s.experts, s.experts_per_token)
                               : "none: dense");
  row("gate", s.gate);
  row("parameters", fmt::format("{}, {} active", short_count(static_cast<double>(s.parameters)),
                                short_count(static_cast<double>(s.active_parameters))));
  for (const auto& [name, type] : s.types)
    row("", fmt::format("              {:<7}{:>6} tensors  {}", name, type.tensors,
                        short_size(static_cast<double>(type.bytes))));
  row("tokenizer", s.tokenizer.empty() ? "none" : s.tokenizer);
  row("chat template", s.chat_template ? "yes" : "no");
  row("runs here", s.runs ? "yes" : "no: " + s.why_not);
  for (const std::string& note : s.notes) row("note", note);
  if (!with_tensors) return;
  print("\n");
  for (const TensorSummary& t : s.tensors)
    print(fmt::format("{:<7} {:>22}  {}\n", data_type_name(t.type),
                      fmt::format("[{}]", fmt::join(t.shape, ", ")), t.name));
}

}  // namespace

void add_show(Options& verb) {
  const auto a = std::make_shared<ShowArguments>();
  verb.add("MODEL", a->model,
           "GGUF file, safetensors file, model folder, or the name of a model in the cache folder")
      .required();
  verb.flag("--tensors", a->tensors, "every tensor with its type and shape");
  verb.flag("--json", a->json, "print JSON");
  verb.run([a] {
    const ModelSummary summary = summarize_model(find_model(a->model));
    if (a->json)
      return print(to_json(summary, a->tensors).dump(2, ' ', false, OrderedJson::error_handler_t::replace) +
                   "\n");
    print_summary(summary, a->tensors);
  });
}

}  // namespace gatewright::command

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/number_list.h"
#include "gatewright/base/quoted.h"
#include "gatewright/evaluate/trace_of.h"
#include "layer_list.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct LogitsArguments {
  std::string model, tokens, layers, device = "auto";
  bool json = false;
  RoutingOverrides overrides;
};

std::vector<int64_t> parse_tokens(const std::string& text, int64_t vocab_size) {
  auto ids = parse_number_list(text);
  if (!ids)
    fail_usage("--tokens {}: token ids with commas between them were expected, such as 1,2,3",
               Quoted{text.substr(0, 60)});
  for (const int64_t id : *ids) {
    if (id >= vocab_size)
      fail("token {} is not in the vocabulary of {}: ids go from 0 to {}", id, vocab_size, vocab_size - 1);
  }
  return *std::move(ids);
}

OrderedJson routing_json(const RoutingRecord& record) {
  const LayerTrace trace = layer_trace(record);
  OrderedJson experts = OrderedJson::array(), weights = OrderedJson::array();
  for (size_t t = 0; t + 1 < trace.row_begin.size(); ++t) {
    const auto begin = trace.row_begin[t], end = trace.row_begin[t + 1];
    experts.push_back(std::vector<int32_t>(trace.expert.begin() + begin, trace.expert.begin() + end));
    weights.push_back(std::vector<float>(trace.weight.begin() + begin, trace.weight.begin() + end));
  }
  return {{"layer", record.layer}, {"round", record.round}, {"experts", experts}, {"weights", weights}};
}

/// The records of the layers asked for.
std::vector<RoutingRecord> shown_records(const LogitsArguments& a, const DecoderOutput& output,
                                         int64_t num_layers) {
  const std::vector<int64_t> asked = parse_layers(a.layers, num_layers);
  std::vector<RoutingRecord> shown = output.routing;
  std::erase_if(shown, [&](const RoutingRecord& record) {
    return !asked.empty() && std::ranges::find(asked, record.layer) == asked.end();
  });
  return shown;
}

/// "layer 3: 1 (0.53) 5 (0.47) | 0 (0.61) 2 (0.39)", tokens one after the other.
std::string routing_line(const RoutingRecord& record) {
  const LayerTrace trace = layer_trace(record);
  std::string line = fmt::format("layer {}{}:", record.layer,
                                 record.round > 0 ? fmt::format(" round {}", record.round) : "");
  for (size_t t = 0; t + 1 < trace.row_begin.size(); ++t) {
    if (t > 0) line += " |";
    for (auto n = static_cast<size_t>(trace.row_begin[t]); n < static_cast<size_t>(trace.row_begin[t + 1]);
         ++n)
      line += fmt::format(" {} ({:.2f})", trace.expert[n], trace.weight[n]);
  }
  return line + "\n";
}

void print_text(const LogitsArguments& a, const std::vector<int64_t>& ids, const Tensor& values,
                const std::vector<RoutingRecord>& routing) {
  const float* value = values.data_ptr<float>();
  const auto vocabulary = static_cast<size_t>(values.size(1));
  for (size_t t = 0; t < ids.size(); ++t) {
    const float* row = value + t * vocabulary;
    const auto best = std::max_element(row, row + vocabulary) - row;
    print(fmt::format("token {}: next most likely {} (logit {:.4f})\n", ids[t], best, row[best]));
  }
  if (a.layers.empty()) return;
  for (const RoutingRecord& record : routing) print(routing_line(record));
}

void print_json(const std::vector<int64_t>& ids, const Tensor& values,
                const std::vector<RoutingRecord>& routing) {
  const float* value = values.data_ptr<float>();
  const auto vocabulary = static_cast<size_t>(values.size(1));
  OrderedJson json = {{"tokens", ids}, {"logits", OrderedJson::array()}, {"routing", OrderedJson::array()}};
  for (size_t t = 0; t < ids.size(); ++t)
    json["logits"].push_back(std::vector<float>(value + t * vocabulary, value + (t + 1) * vocabulary));
  for (const RoutingRecord& record : routing) json["routing"].push_back(routing_json(record));
  print(json.dump() + "\n");
}

void logits(const LogitsArguments& a) {
  const at::NoGradGuard no_grad;
  parse_layers(a.layers);  // wrong use is answered before a large model is loaded
  Decoder model = load_decoder_only(a.model, a.device, a.overrides);
  const std::vector<int64_t> ids = parse_tokens(a.tokens, model.spec().vocab_size);
  const Tensor tokens = at::tensor(at::ArrayRef<int64_t>(ids), at::kLong).unsqueeze(0).to(model.device());
  const DecoderOutput output = model.forward({.tokens = tokens});
  const std::vector<RoutingRecord> routing = shown_records(a, output, model.spec().num_layers());
  const Tensor values = model.logits(output.hidden[0]).to(at::kCPU).contiguous();
  for (size_t t = 0; t < ids.size(); ++t) {
    if (!std::isfinite(values.data_ptr<float>()[static_cast<int64_t>(t) * values.size(1)]))
      fail("{}: the logits of token {} are not numbers; weights are damaged", a.model, t);
  }
  a.json ? print_json(ids, values, routing) : print_text(a, ids, values, routing);
}

}  // namespace

void add_logits(Options& verb) {
  const auto a = std::make_shared<LogitsArguments>();
  verb.add("MODEL", a->model, "model folder, GGUF file, or name of a model in the cache folder").required();
  verb.add("--tokens", a->tokens, "token ids with commas between them").required();
  verb.add("--layers", a->layers, "whose routing is shown, such as 0,3,8-15; all in JSON when left out");
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json,
            "print JSON: tokens, logits [T][V], routing (experts and weights of each token)");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { logits(*a); });
}

}  // namespace gatewright::command

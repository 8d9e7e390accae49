#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/evaluate/trace_of.h"
#include "model_folder.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct LogitsArguments {
  std::string model, tokens, device = "auto";
  bool json = false;
  RoutingOverrides overrides;
};

std::vector<int64_t> parse_tokens(const std::string& text, int64_t vocab_size) {
  std::vector<int64_t> ids;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int64_t id = -1;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end)
      fail_usage("--tokens '{}': token ids with commas between them were expected, such as 1,2,3",
                 text.substr(0, 60));
    if (id < 0 || id >= vocab_size)
      fail("token {} is not in the vocabulary of {}: ids go from 0 to {}", id, vocab_size, vocab_size - 1);
    ids.push_back(id);
    begin = end + 1;
  }
  return ids;
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

void logits(const LogitsArguments& a) {
  const at::NoGradGuard no_grad;
  Decoder model = load_decoder_only(a.model, a.device, a.overrides);
  const std::vector<int64_t> ids = parse_tokens(a.tokens, model.spec().vocab_size);
  const Tensor tokens = at::tensor(at::ArrayRef<int64_t>(ids), at::kLong).unsqueeze(0).to(model.device());
  const DecoderOutput output = model.forward({.tokens = tokens});
  const Tensor values = model.logits(output.hidden[0]).to(at::kCPU).contiguous();
  const float* value = values.data_ptr<float>();
  const auto vocabulary = static_cast<size_t>(values.size(1));
  for (size_t t = 0; t < ids.size(); ++t) {
    if (!std::isfinite(value[t * vocabulary]))
      fail("{}: the logits of token {} are not numbers; weights are damaged", a.model, t);
  }
  if (!a.json) {
    for (size_t t = 0; t < ids.size(); ++t) {
      const float* row = value + t * vocabulary;
      const auto best = std::max_element(row, row + vocabulary) - row;
      print(fmt::format("token {}: next most likely {} (logit {:.4f})\n", ids[t], best, row[best]));
    }
    return;
  }
  OrderedJson json = {{"tokens", ids}, {"logits", OrderedJson::array()}, {"routing", OrderedJson::array()}};
  for (size_t t = 0; t < ids.size(); ++t)
    json["logits"].push_back(std::vector<float>(value + t * vocabulary, value + (t + 1) * vocabulary));
  for (const RoutingRecord& record : output.routing) json["routing"].push_back(routing_json(record));
  print(json.dump() + "\n");
}

}  // namespace

void add_logits(Options& verb) {
  const auto a = std::make_shared<LogitsArguments>();
  verb.add("MODEL", a->model, "model folder, GGUF file, or name of a model in the cache folder").required();
  verb.add("--tokens", a->tokens, "token ids with commas between them").required();
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  verb.flag("--json", a->json,
            "print JSON: tokens, logits [T][V], routing (experts and weights of each token)");
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { logits(*a); });
}

}  // namespace gatewright::command

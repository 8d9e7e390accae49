#include "gatewright/train/metrics.h"

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

OrderedJson routing_json(const RoutingStatistics& s) {
  OrderedJson json = {{"experts_per_token", s.experts_per_token()},
                      {"load_imbalance", s.load_imbalance()},
                      {"dead_experts", s.dead_experts()},
                      {"largest_logit", s.largest_logit()}};
  if (const auto balance = s.balance(); !balance.empty()) {
    json["balance"] = OrderedJson::object();
    for (const auto& [name, value] : balance) json["balance"][name] = value;
  }
  return json;
}

}  // namespace

Metrics::Metrics(const std::filesystem::path& file, Events& events)
    : events_(events), out_(file, std::ios::app) {
  require(out_.good(), "{} can't be written", file.string());
}

void Metrics::add(const OrderedJson& row) {
  out_ << row.dump() << '\n' << std::flush;
  require(out_.good(), "metrics.jsonl can't be written: is the disk full?");
  events_.metrics(row);
}

OrderedJson step_row(Trainer& trainer, const StepResult& result, double tokens_per_second) {
  OrderedJson row = {{"step", trainer.steps_done()},          {"loss", result.loss},
                     {"bits_per_byte", result.bits_per_byte}, {"learning_rate", result.learning_rate},
                     {"gradient_norm", result.gradient_norm}, {"tokens_per_second", tokens_per_second}};
  if (trainer.has_disagreement()) row["disagreement"] = result.disagreement;
  if (const RoutingStatistics statistics = trainer.take_statistics(); !statistics.empty())
    row.update(routing_json(statistics));
  if (const RoutingStatistics heads = trainer.take_head_statistics(); !heads.empty())
    row["attention"] = routing_json(heads);
  return row;
}

OrderedJson validation_row(const ValidationResult& result, const TrainingData& data, int64_t step) {
  OrderedJson row = {{"step", step},
                     {"validation_loss", result.all.loss()},
                     {"validation_bits_per_byte", result.all.bits_per_byte()},
                     {"domains", OrderedJson::object()}};
  for (size_t d = 0; d < result.domains.size(); ++d) {
    if (result.domains[d].tokens) row["domains"][data.cache.domains()[d]] = result.domains[d].bits_per_byte();
  }
  if (!result.routing.empty()) {
    row["validation_experts_per_token"] = result.routing.experts_per_token();
    row["validation_load_imbalance"] = result.routing.load_imbalance();
    for (const LayerStatistics& layer : result.routing.layers()) {
      row["validation_experts_per_token_by_layer"].push_back(layer.experts_per_token());
      row["validation_tokens_by_experts"].push_back(layer.tokens_by_experts);
    }
  }
  return row;
}

}  // namespace gatewright

#include "gatewright/evaluate/trace_of.h"

namespace gatewright {
namespace {

/// The rows of the tokens that `keep` names.
LayerTrace kept_rows(const LayerTrace& all, const std::vector<size_t>& keep) {
  LayerTrace kept;
  for (size_t t : keep) {
    for (int64_t n = all.row_begin[t]; n < all.row_begin[t + 1]; ++n) {
      kept.expert.push_back(all.expert[static_cast<size_t>(n)]);
      kept.weight.push_back(all.weight[static_cast<size_t>(n)]);
    }
    kept.row_begin.push_back(static_cast<int64_t>(kept.expert.size()));
    kept.margin.push_back(all.margin[t]);
  }
  return kept;
}

}  // namespace

TraceHeader trace_header(const DecoderSpec& spec, std::vector<std::string> domains) {
  TraceHeader header{.domains = std::move(domains), .vocab_size = spec.vocab_size};
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!spec.layers[i].routed) continue;
    for (int64_t t = 0; t < spec.layers[i].rounds.rounds; ++t)
      header.layers.push_back(
          {.layer = static_cast<int64_t>(i), .num_experts = spec.layers[i].num_experts, .round = t});
  }
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    const FeedForwardSpec& layer = spec.layers[static_cast<size_t>(i)];
    if (spec.selective_attention)
      header.layers.push_back({.layer = i, .num_experts = spec.num_heads, .part = "heads"});
    for (const AdaptedProjection& p : adapted_projections(spec, layer))
      header.layers.push_back({.layer = i, .num_experts = layer.num_experts, .part = p.name});
  }
  return header;
}

std::vector<RoutingRecord> traced_records(const DecoderOutput& output) {
  std::vector<RoutingRecord> records = output.routing;
  records.insert(records.end(), output.attention.begin(), output.attention.end());
  return records;
}

LayerTrace layer_trace(const RoutingRecord& record) {
  const choice::Pairs pairs = to_pairs(record.assignment);
  const Tensor plain = record.assignment.weight.detach().to(at::kCPU, at::kFloat).contiguous();
  const float* weight = plain.data_ptr<float>();
  LayerTrace trace;
  trace.row_begin.assign(static_cast<size_t>(pairs.num_tokens) + 1, 0);
  for (int64_t t : pairs.token) ++trace.row_begin[static_cast<size_t>(t) + 1];
  for (size_t t = 1; t < trace.row_begin.size(); ++t) trace.row_begin[t] += trace.row_begin[t - 1];
  trace.expert.resize(pairs.token.size());
  trace.weight.resize(pairs.token.size());
  std::vector<int64_t> next(trace.row_begin.begin(), trace.row_begin.end() - 1);
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    for (int64_t n = pairs.expert_begin[static_cast<size_t>(e)];
         n < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++n) {
      const auto at = static_cast<size_t>(next[static_cast<size_t>(pairs.token[static_cast<size_t>(n)])]++);
      trace.expert[at] = static_cast<int32_t>(e);
      trace.weight[at] = weight[n];
    }
  }
  trace.margin = margins(record);
  return trace;
}

TraceBatch trace_of(const PackedBatch& packed, const std::vector<RoutingRecord>& records) {
  std::vector<size_t> keep;
  TraceBatch batch;
  for (size_t t = 0; t < packed.targets.size(); ++t) {
    if (packed.targets[t] < 0) continue;
    keep.push_back(t);
    batch.token.push_back(packed.tokens[t]);
    batch.domain.push_back(packed.domain[t]);
  }
  for (const RoutingRecord& record : records) batch.layers.push_back(kept_rows(layer_trace(record), keep));
  return batch;
}

}  // namespace gatewright

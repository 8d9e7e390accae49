#include "gatewright/routing/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace gatewright {
namespace {

double mean_over(const std::vector<LayerStatistics>& layers, double (*value)(const LayerStatistics&)) {
  if (layers.empty()) return 0;
  double sum = 0;
  for (const LayerStatistics& l : layers) sum += value(l);
  return sum / static_cast<double>(layers.size());
}

/// Running mean of a named value after `batches` values before it.
void add_mean(std::vector<std::pair<std::string, double>>& means, const std::string& name, double value,
              int64_t batches) {
  auto it = std::ranges::find(means, name, &std::pair<std::string, double>::first);
  if (it == means.end()) it = means.insert(means.end(), {name, 0.0});
  it->second += (value - it->second) / static_cast<double>(batches + 1);
}

/// The largest |logit|, masked ones aside.
double largest_magnitude(const Tensor& logits) {
  if (logits.numel() == 0) return 0;
  const auto [least, most] = logits.aminmax();
  const double low = least.item<double>(), high = most.item<double>();
  if (!std::isinf(low)) return std::max(std::abs(low), std::abs(high));
  return logits.masked_fill(at::isinf(logits), 0).abs().max().item<double>();
}

void add_counts(const Assignment& assignment, std::span<const uint8_t> counted, LayerStatistics& layer) {
  const Tensor begin = assignment.expert_begin.to(at::kCPU);
  const auto* b = begin.data_ptr<int64_t>();
  if (counted.empty()) {
    for (size_t e = 0; e < layer.counts.size(); ++e) layer.counts[e] += static_cast<double>(b[e + 1] - b[e]);
    layer.tokens += assignment.num_tokens;
    return;
  }
  const Tensor plain = assignment.token.to(at::kCPU);
  const auto* token = plain.data_ptr<int64_t>();
  for (size_t e = 0; e < layer.counts.size(); ++e) {
    for (int64_t n = b[e]; n < b[e + 1]; ++n) layer.counts[e] += counted[static_cast<size_t>(token[n])];
  }
  layer.tokens += std::accumulate(counted.begin(), counted.end(), int64_t{0});
}

/// Tokens by the number of experts they visit, added to layer.tokens_by_experts [E + 1].
void add_histogram(const Assignment& assignment, std::span<const uint8_t> counted, LayerStatistics& layer) {
  const Tensor visits = at::bincount(assignment.token, {}, assignment.num_tokens).to(at::kCPU);
  const auto* n = visits.data_ptr<int64_t>();
  layer.tokens_by_experts.resize(layer.counts.size() + 1);
  for (size_t t = 0; t < static_cast<size_t>(assignment.num_tokens); ++t)
    layer.tokens_by_experts[static_cast<size_t>(n[t])] += counted.empty() ? 1.0 : counted[t];
}

}  // namespace

double LayerStatistics::pairs() const { return std::accumulate(counts.begin(), counts.end(), 0.0); }

double LayerStatistics::experts_per_token() const {
  return tokens ? pairs() / static_cast<double>(tokens) : 0.0;
}

double LayerStatistics::load_imbalance() const {
  const double all = pairs();
  if (all <= 0) return 0;
  return std::ranges::max(counts) * static_cast<double>(counts.size()) / all - 1;
}

int64_t LayerStatistics::dead_experts() const { return std::ranges::count(counts, 0.0); }

void RoutingStatistics::add(std::span<const RoutingRecord> records, const Tensor& real) {
  const Tensor flags = real.defined() ? real.to(at::kCPU, at::kByte).contiguous() : Tensor();
  const std::span<const uint8_t> counted =
      flags.defined() ? std::span(flags.data_ptr<uint8_t>(), static_cast<size_t>(flags.numel()))
                      : std::span<const uint8_t>();
  layers_.resize(records.size());
  batches_.resize(records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const RoutingRecord& record = records[i];
    LayerStatistics& layer = layers_[i];
    layer.layer = record.layer;
    layer.counts.resize(static_cast<size_t>(record.assignment.num_experts()));
    add_counts(record.assignment, counted, layer);
    add_histogram(record.assignment, counted, layer);
    layer.largest_logit = std::max(layer.largest_logit, largest_magnitude(record.scores.logits.detach()));
    for (const RoutingRecord::TermValue& term : record.balance) {
      if (term.value.defined()) add_mean(layer.balance, term.name, term.value.item<double>(), batches_[i]);
    }
    ++batches_[i];
  }
}

double RoutingStatistics::load_imbalance() const {
  return mean_over(layers_, [](const LayerStatistics& l) { return l.load_imbalance(); });
}

double RoutingStatistics::experts_per_token() const {
  return mean_over(layers_, [](const LayerStatistics& l) { return l.experts_per_token(); });
}

int64_t RoutingStatistics::dead_experts() const {
  int64_t dead = 0;
  for (const LayerStatistics& l : layers_) dead += l.dead_experts();
  return dead;
}

double RoutingStatistics::largest_logit() const {
  double largest = 0;
  for (const LayerStatistics& l : layers_) largest = std::max(largest, l.largest_logit);
  return largest;
}

std::vector<std::pair<std::string, double>> RoutingStatistics::balance() const {
  std::vector<std::pair<std::string, double>> means;
  std::vector<std::pair<std::string, int64_t>> seen;
  for (const LayerStatistics& l : layers_) {
    for (const auto& [name, value] : l.balance) {
      auto count = std::ranges::find(seen, name, &std::pair<std::string, int64_t>::first);
      if (count == seen.end()) count = seen.insert(seen.end(), {name, 0});
      add_mean(means, name, value, count->second++);
    }
  }
  return means;
}

}  // namespace gatewright

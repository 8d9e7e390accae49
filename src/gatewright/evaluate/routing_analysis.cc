#include "gatewright/evaluate/routing_analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gatewright {
namespace {

using Row = std::vector<double>;

double sum(const auto& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

Row shares(const Row& counts) {
  const double all = sum(counts);
  Row result(counts.size(), std::numeric_limits<double>::quiet_NaN());
  if (all > 0) std::ranges::transform(counts, result.begin(), [all](double x) { return x / all; });
  return result;
}

double entropy_bits(const Row& shares) {
  double bits = 0;
  for (double p : shares) bits -= p > 0 ? p * std::log2(p) : 0;
  return bits;
}

/// The same for rows of any number type; rows may be empty.
template <typename Rows>
double information(const Rows& joint) {
  Row columns;
  double all = 0;
  for (const auto& row : joint) {
    if (row.empty()) continue;
    columns.resize(row.size());
    for (size_t c = 0; c < row.size(); ++c) columns[c] += static_cast<double>(row[c]);
    all += sum(row);
  }
  if (all <= 0) return 0;
  double bits = 0;
  for (const auto& row : joint) {
    const double of_row = sum(row);
    for (size_t c = 0; c < row.size(); ++c) {
      const double p = static_cast<double>(row[c]) / all;
      if (p > 0) bits += p * std::log2(p * all * all / (of_row * columns[c]));
    }
  }
  return std::max(0.0, bits);
}

}  // namespace

double mutual_information(const std::vector<std::vector<double>>& joint) { return information(joint); }

RoutingAnalysis::RoutingAnalysis(TraceHeader header) : header_(std::move(header)) {
  const auto vocabulary = static_cast<size_t>(header_.vocab_size);
  margin_sum_.resize(vocabulary);
  margin_count_.resize(vocabulary);
  occurrences_.resize(vocabulary);
  for (const TraceLayer& layer : header_.layers) {
    const auto experts = static_cast<size_t>(layer.num_experts);
    LayerCounts counts;
    counts.expert.resize(experts);
    counts.domain.assign(header_.domains.size(), Row(experts));
    counts.token.resize(vocabulary);
    counts.together.assign(experts, Row(experts));
    counts_.push_back(std::move(counts));
  }
}

void RoutingAnalysis::add(const TraceBatch& batch) {
  tokens_ += static_cast<int64_t>(batch.token.size());
  for (int32_t id : batch.token) ++occurrences_[static_cast<size_t>(id)];
  for (size_t l = 0; l < counts_.size(); ++l) {
    LayerCounts& counts = counts_[l];
    const LayerTrace& layer = batch.layers[l];
    for (size_t t = 0; t < batch.token.size(); ++t) {
      const auto id = static_cast<size_t>(batch.token[t]);
      std::vector<float>& of_token = counts.token[id];
      if (of_token.empty()) of_token.resize(counts.expert.size());
      const std::span<const int32_t> visited(
          layer.expert.data() + layer.row_begin[t],
          static_cast<size_t>(layer.row_begin[t + 1] - layer.row_begin[t]));
      for (int32_t e : visited) {
        const auto expert = static_cast<size_t>(e);
        ++counts.expert[expert];
        ++of_token[expert];
        if (batch.domain[t] >= 0) ++counts.domain[static_cast<size_t>(batch.domain[t])][expert];
        for (int32_t other : visited) ++counts.together[expert][static_cast<size_t>(other)];
      }
      if (std::isnan(layer.margin[t])) continue;
      counts.margin_sum += static_cast<double>(layer.margin[t]);
      ++counts.margins;
      margin_sum_[id] += static_cast<double>(layer.margin[t]);
      ++margin_count_[id];
    }
  }
}

LayerAnalysis RoutingAnalysis::analyse(size_t index) const {
  const LayerCounts& counts = counts_[index];
  LayerAnalysis result{.layer = header_.layers[index].layer, .load = shares(counts.expert)};
  const double all = sum(counts.expert);
  if (all <= 0) result.load.assign(counts.expert.size(), 0.0);
  result.entropy = entropy_bits(result.load);
  result.load_imbalance =
      all > 0 ? std::ranges::max(result.load) * static_cast<double>(result.load.size()) - 1 : 0;
  result.experts_per_token = tokens_ ? all / static_cast<double>(tokens_) : 0;
  for (const Row& domain : counts.domain) result.domains.push_back(shares(domain));
  result.domain_information = information(counts.domain);
  result.token_information = information(counts.token);
  result.mean_margin = counts.margins ? counts.margin_sum / static_cast<double>(counts.margins) : 0;
  for (size_t i = 0; i < counts.together.size(); ++i) {
    Row row = counts.together[i];
    for (double& x : row) x = counts.expert[i] > 0 ? x / counts.expert[i] : 0;
    result.together.push_back(std::move(row));
  }
  return result;
}

std::vector<LayerAnalysis> RoutingAnalysis::layers() const {
  std::vector<LayerAnalysis> all;
  for (size_t i = 0; i < counts_.size(); ++i) all.push_back(analyse(i));
  return all;
}

std::vector<UncertainToken> RoutingAnalysis::most_uncertain(size_t count, int64_t least_count) const {
  std::vector<UncertainToken> tokens;
  for (size_t id = 0; id < margin_sum_.size(); ++id) {
    if (margin_count_[id] == 0 || occurrences_[id] < least_count) continue;
    tokens.push_back({.token = static_cast<int32_t>(id),
                      .count = occurrences_[id],
                      .margin = margin_sum_[id] / static_cast<double>(margin_count_[id])});
  }
  std::ranges::sort(tokens, {}, [](const UncertainToken& t) { return std::pair(t.margin, t.token); });
  if (tokens.size() > count) tokens.resize(count);
  return tokens;
}

}  // namespace gatewright

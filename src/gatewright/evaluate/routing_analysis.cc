#include "gatewright/evaluate/routing_analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "gatewright/base/error.h"

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
  constexpr int64_t kMostCells = int64_t{1} << 25;
  const auto domains = static_cast<int64_t>(header_.domains.size());
  int64_t cells = 0;
  for (const TraceLayer& layer : header_.layers) {
    cells += layer.num_experts * (layer.num_experts + domains + 1);
    require(cells <= kMostCells,
            "the routing can't be analysed: {} layers of up to {} experts and {} domains are too many",
            header_.layers.size(), layer.num_experts, domains);
  }
  for (const TraceLayer& layer : header_.layers) {
    const auto experts = static_cast<size_t>(layer.num_experts);
    LayerCounts counts;
    counts.expert.resize(experts);
    counts.tokens_by_experts.resize(experts + 1);
    counts.domain.assign(header_.domains.size(), Row(experts));
    counts.together.assign(experts, Row(experts));
    counts_.push_back(std::move(counts));
  }
}

void RoutingAnalysis::add(const TraceBatch& batch) {
  tokens_ += static_cast<int64_t>(batch.token.size());
  for (int32_t id : batch.token) ++margins_[id].occurrences;
  domain_tokens_.resize(header_.domains.size());
  for (int32_t d : batch.domain) {
    if (d >= 0) ++domain_tokens_[static_cast<size_t>(d)];
  }
  for (size_t l = 0; l < counts_.size(); ++l) {
    LayerCounts& counts = counts_[l];
    const LayerTrace& layer = batch.layers[l];
    for (size_t t = 0; t < batch.token.size(); ++t) {
      std::vector<float>& of_token = counts.token[batch.token[t]];
      if (of_token.empty()) of_token.resize(counts.expert.size());
      const std::span<const int32_t> visited(
          layer.expert.data() + layer.row_begin[t],
          static_cast<size_t>(layer.row_begin[t + 1] - layer.row_begin[t]));
      ++counts.tokens_by_experts[visited.size()];
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
      TokenMargins& margins = margins_[batch.token[t]];
      margins.sum += static_cast<double>(layer.margin[t]);
      ++margins.count;
    }
  }
}

LayerAnalysis RoutingAnalysis::analyse(size_t index) const {
  const LayerCounts& counts = counts_[index];
  LayerAnalysis result{.layer = header_.layers[index].layer,
                       .round = header_.layers[index].round,
                       .part = header_.layers[index].part,
                       .load = shares(counts.expert)};
  const double all = sum(counts.expert);
  if (all <= 0) result.load.assign(counts.expert.size(), 0.0);
  result.entropy = entropy_bits(result.load);
  result.load_imbalance =
      all > 0 ? std::ranges::max(result.load) * static_cast<double>(result.load.size()) - 1 : 0;
  result.experts_per_token = tokens_ ? all / static_cast<double>(tokens_) : 0;
  result.tokens_by_experts = counts.tokens_by_experts;
  for (size_t d = 0; d < counts.domain.size(); ++d) {
    const int64_t of_domain = d < domain_tokens_.size() ? domain_tokens_[d] : 0;
    result.domains.push_back(shares(counts.domain[d]));
    result.domain_experts_per_token.push_back(of_domain
                                                  ? sum(counts.domain[d]) / static_cast<double>(of_domain)
                                                  : std::numeric_limits<double>::quiet_NaN());
  }
  result.domain_information = information(counts.domain);
  std::vector<std::span<const float>> tokens;
  for (const auto& [token, row] : counts.token) tokens.emplace_back(row);
  result.token_information = information(tokens);
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
  for (const auto& [id, margins] : margins_) {
    if (margins.count == 0 || margins.occurrences < least_count) continue;
    tokens.push_back({.token = id,
                      .count = margins.occurrences,
                      .margin = margins.sum / static_cast<double>(margins.count)});
  }
  std::ranges::sort(tokens, {}, [](const UncertainToken& t) { return std::pair(t.margin, t.token); });
  if (tokens.size() > count) tokens.resize(count);
  return tokens;
}

}  // namespace gatewright

// What a trace says about a router: load, domains, information, co-activation, uncertain tokens. Plain
// values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "gatewright/formats/routing_trace.h"

namespace gatewright {

/// One routed layer over all tokens. E experts, D domains. A token's visit of an expert counts 1 whatever its
/// weight.
struct LayerAnalysis {
  int64_t layer = 0;
  int64_t round = 0;
  std::string part = {};          // as in TraceLayer
  std::vector<double> load = {};  // [E] share of all visits
  double entropy = 0;             // of the load, in bits; at most log2 E
  double load_imbalance = 0;      // largest load over mean load, minus 1
  double experts_per_token = 0;
  std::vector<double> domain_experts_per_token = {};  // [D]; NaN for a domain without tokens
  std::vector<int64_t> tokens_by_experts = {};        // [E + 1] tokens that visit 0, 1, ..., E experts
  std::vector<std::vector<double>> domains = {};   // [D][E] share of the domain's visits; NaN for one without
  double domain_information = 0;                   // between expert and domain, bits
  double token_information = 0;                    // between expert and token id, bits
  double mean_margin = 0;                          // over tokens that had another choice; 0 when none had
  std::vector<std::vector<double>> together = {};  // [E][E] share of i's tokens that also visit j; diagonal 1
};

struct UncertainToken {
  int32_t token = 0;
  int64_t count = 0;
  double margin = 0;  // mean over its occurrences and layers
};

class RoutingAnalysis {
 public:
  /// Fails for headers with so many layers, experts and domains that their tables would not fit into memory.
  explicit RoutingAnalysis(TraceHeader header);
  void add(const TraceBatch& batch);

  int64_t tokens() const { return tokens_; }
  std::vector<LayerAnalysis> layers() const;
  /// The token ids with the least mean margin among those that occur at least `least_count` times.
  std::vector<UncertainToken> most_uncertain(size_t count, int64_t least_count) const;
  const TraceHeader& header() const { return header_; }

 private:
  struct LayerCounts {
    std::vector<double> expert;                             // [E]
    std::vector<std::vector<double>> domain;                // [D][E]
    std::unordered_map<int32_t, std::vector<float>> token;  // [E] for each token id that occurred
    std::vector<std::vector<double>> together;              // [E][E]
    std::vector<int64_t> tokens_by_experts;                 // [E + 1]
    double margin_sum = 0;
    int64_t margins = 0;
  };
  LayerAnalysis analyse(size_t index) const;

  TraceHeader header_;
  std::vector<LayerCounts> counts_;
  struct TokenMargins {
    double sum = 0;
    int64_t count = 0, occurrences = 0;
  };
  std::unordered_map<int32_t, TokenMargins> margins_;
  std::vector<int64_t> domain_tokens_;  // [D]
  int64_t tokens_ = 0;
};

/// Mutual information in bits of a table of joint counts [rows][columns], plug-in estimate.
double mutual_information(const std::vector<std::vector<double>>& joint);

}  // namespace gatewright

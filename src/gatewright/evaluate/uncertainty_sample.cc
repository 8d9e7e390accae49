#include "gatewright/evaluate/uncertainty_sample.h"

#include "gatewright/base/error.h"
#include "gatewright/routing/choice/selectors/broadcast.h"
#include "gatewright/routing/uncertainty.h"

namespace gatewright {
namespace {

std::vector<double> thresholds_of(const Tensor& values, const std::vector<double>& shares) {
  std::vector<double> result;
  for (double share : shares) result.push_back(threshold_for_share(values, share));
  return result;
}

}  // namespace

void UncertaintySample::add(const std::vector<RoutingRecord>& records, const Tensor& real) {
  if (layers_.empty()) {
    for (const RoutingRecord& r : records)
      layers_.push_back(
          {.layer = r.layer, .round = r.round, .num_experts = r.scores.num_experts(), .values = {}});
  }
  require(layers_.size() == records.size(), "a batch of {} routed layers after one of {}", records.size(),
          layers_.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const Tensor all = uncertainty(distribution(records[i].scores).detach()).to(at::kCPU);
    layers_[i].values.push_back(all.masked_select(real.to(at::kCPU)));
  }
}

std::vector<UncertaintySample::Layer> UncertaintySample::layers(const std::vector<double>& shares) const {
  std::vector<Layer> result;
  for (const Seen& seen : layers_) {
    const Tensor values = at::cat(seen.values);
    result.push_back({.layer = seen.layer,
                      .round = seen.round,
                      .mean = values.mean().item<double>(),
                      .at_most = choice::largest_uncertainty(seen.num_experts),
                      .thresholds = thresholds_of(values, shares)});
  }
  return result;
}

std::vector<double> UncertaintySample::thresholds(const std::vector<double>& shares) const {
  std::vector<Tensor> all;
  for (const Seen& seen : layers_) all.insert(all.end(), seen.values.begin(), seen.values.end());
  require(!all.empty(), "a threshold needs the uncertainty of at least one token");
  return thresholds_of(at::cat(all), shares);
}

}  // namespace gatewright

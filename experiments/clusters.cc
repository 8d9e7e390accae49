#include "experiments/clusters.h"

#include <fmt/format.h>

#include "gatewright/base/error.h"
#include "gatewright/experts/registry.h"
#include "gatewright/layers/consistency.h"
#include "gatewright/layers/linear.h"

namespace gatewright::experiments {

Tensor normal_tensor(at::IntArrayRef shape, RandomStream& random) {
  return normal_parameter(shape, 1, random).detach();
}

Tensor draw_indices(int64_t size, int64_t count, RandomStream& random) {
  Tensor indices = at::empty({count}, at::kLong);
  auto* values = indices.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    values[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(size)));
  return indices;
}

Clusters::Clusters(int64_t count, int64_t width, double spread, RandomStream& random)
    : centres_(normal_tensor({count, width}, random) * spread) {}

Clusters::Points Clusters::draw(int64_t count, RandomStream& random) const {
  const Tensor cluster = draw_indices(centres_.size(0), count, random);
  return {.x = centres_.index_select(0, cluster) + normal_tensor({count, centres_.size(1)}, random),
          .cluster = cluster};
}

Tensor Clusters::nearest(const Tensor& x) const { return at::cdist(x, centres_).argmin(-1); }

Clusters fixed_clusters() {
  RandomStream random(0, "cluster centres");
  return {24, 16, 1.1, random};
}

Labelled draw_batch(const Labelled& data, int64_t count, RandomStream& random) {
  const Tensor rows = draw_indices(data.x.size(0), count, random);
  return {.x = data.x.index_select(0, rows), .label = data.label.index_select(0, rows)};
}

ExpertClassifier::ExpertClassifier(const Spec& spec, uint64_t seed) {
  const Piece bank =
      make_piece(expert_banks(), "relu", {{"width", spec.width}, {"biases", true}, {"init", kInit}});
  for (int64_t l = 0; l < spec.num_layers; ++l) {
    RandomStream router(seed, fmt::format("layers.{}.router", l)),
        experts(seed, fmt::format("layers.{}.experts", l));
    routers_.emplace_back(
        spec.router, RouterSizes{.hidden_size = spec.hidden_size, .num_experts = spec.num_experts}, router);
    banks_.push_back(make_expert_bank(
        bank, {}, {.hidden_size = spec.hidden_size, .num_experts = spec.num_experts, .layer = l}, experts));
  }
  RandomStream head(seed, "head");
  head_ = normal_parameter({spec.num_classes, spec.hidden_size}, kInit, head);
  head_bias_ = constant_parameter({spec.num_classes}, 0);
}

ExpertClassifier::Output ExpertClassifier::forward(const Tensor& x, bool training, RandomStream& random) {
  Output output;
  Tensor hidden = x;
  for (size_t l = 0; l < routers_.size(); ++l) {
    RoutingRecord record =
        routers_[l].route(hidden, {.layer = static_cast<int64_t>(l),
                                   .training = training,
                                   .num_routed_layers = static_cast<int64_t>(routers_.size()),
                                   .random = &random});
    hidden = hidden + banks_[l]->forward(hidden, record.assignment, {.training = training});
    if (record.loss.defined())
      output.balance_loss = output.balance_loss.defined() ? output.balance_loss + record.loss : record.loss;
    output.routing.push_back(std::move(record));
  }
  output.logits = linear_layer(hidden, head_, head_bias_);
  return output;
}

void ExpertClassifier::end_step() {
  for (Router& router : routers_) router.end_step();
}

ParameterList ExpertClassifier::parameters() const {
  ParameterList list;
  for (size_t l = 0; l < routers_.size(); ++l) {
    routers_[l].collect(list, fmt::format("layers.{}.mlp.gate", l));
    banks_[l]->collect(list, fmt::format("layers.{}.mlp", l));
  }
  list.push_back({.name = "head.weight", .tensor = head_});
  list.push_back({.name = "head.bias", .tensor = head_bias_});
  return list;
}

void ExpertClassifier::copy_from(const ExpertClassifier& other) {
  const at::NoGradGuard no_grad;
  const ParameterList from = other.parameters(), to = parameters();
  require(from.size() == to.size(),
          "a classifier with {} tensors cannot take over the weights of one with {}", to.size(), from.size());
  for (size_t i = 0; i < to.size(); ++i) {
    require(from[i].name == to[i].name && from[i].tensor.sizes() == to[i].tensor.sizes(),
            "a classifier's {} cannot take over the values of {}", to[i].name, from[i].name);
    to[i].tensor.copy_(from[i].tensor);
  }
}

Tensor mean_cross_entropy(const Tensor& logits, const Tensor& labels) {
  return label_smoothed_cross_entropy(logits, labels, 0) / labels.size(0);
}

double accuracy(const Tensor& logits, const Tensor& labels) {
  return (logits.argmax(-1) == labels).to(at::kDouble).mean().item<double>();
}

}  // namespace gatewright::experiments

#include "gatewright/experts/shared.h"

namespace gatewright {

SharedExperts::SharedExperts(std::unique_ptr<ExpertBank> routed, const ExpertSizes& sizes,
                             const SharedOptions& options, RandomStream& random)
    : routed_(std::move(routed)),
      ffn_(make_ffn_parameters(0, sizes.hidden_size, options.ffn, random)),
      activation_(options.ffn.activation),
      recompute_(options.ffn.recompute),
      scale_(options.scale) {
  if (options.own_gain) gain_ = constant_parameter({sizes.hidden_size}, 1);
  if (!options.gate) return;
  gate_ = at::empty({1, sizes.hidden_size}, at::kFloat);
  float* values = gate_.data_ptr<float>();
  for (int64_t i = 0; i < gate_.numel(); ++i)
    values[i] = random.normal() * static_cast<float>(options.ffn.init);
  gate_.set_requires_grad(true);
}

Tensor SharedExperts::forward(const Tensor& hidden, const Assignment& assignment,
                              const ExpertContext& context) {
  Tensor weight;
  if (gate_.defined()) weight = at::sigmoid(at::mv(hidden.to(at::kFloat), gate_.squeeze(0)));
  if (scale_ != 1.0)
    weight = weight.defined() ? weight * scale_
                              : at::full({hidden.size(0)}, scale_, hidden.options().dtype(at::kFloat));
  const Tensor read = gain_.defined() ? hidden * gain_.to(hidden.scalar_type()) : hidden;
  return routed_->forward(hidden, assignment, context) +
         dense_ffn(read, ffn_, activation_, weight, recompute_, context.observer);
}

void SharedExperts::collect(ParameterList& parameters, const std::string& prefix) const {
  routed_->collect(parameters, prefix);
  const std::string own = prefix + (gate_.defined() ? ".shared_expert" : ".shared_experts");
  collect_ffn(ffn_, parameters, own);
  if (gain_.defined())
    parameters.push_back({.name = own + ".input_gain.weight", .tensor = gain_, .weight_decay = false});
  if (gate_.defined()) parameters.push_back({.name = prefix + ".shared_expert_gate.weight", .tensor = gate_});
}

int64_t SharedExperts::parameters_per_token() const {
  return routed_->parameters_per_token() + ffn_parameters(ffn_) + (gate_.defined() ? gate_.numel() : 0) +
         (gain_.defined() ? gain_.numel() : 0);
}

}  // namespace gatewright

#include "gatewright/experts/feed_forward.h"

#include "gatewright/base/error.h"
#include "gatewright/experts/dropout.h"
#include "gatewright/experts/packed_tensor.h"

namespace gatewright {
namespace {

bool is_gated(Activation activation) {
  return activation == Activation::swiglu || activation == Activation::clamped_swiglu;
}

}  // namespace

int64_t default_ffn_width(int64_t hidden_size, Activation activation) {
  return is_gated(activation) ? (8 * hidden_size / 3 + 7) / 8 * 8 : 4 * hidden_size;
}

FfnTensors make_ffn_parameters(int64_t experts, int64_t hidden_size, const FeedForwardOptions& options,
                               RandomStream& random) {
  const int64_t width =
      options.width > 0 ? options.width : default_ffn_width(hidden_size, options.activation);
  const bool gated = is_gated(options.activation);
  const auto shape = [experts](std::vector<int64_t> of_one) {
    if (experts > 0) of_one.insert(of_one.begin(), experts);
    return of_one;
  };
  FfnTensors ffn;
  if (gated) ffn.gate = normal_parameter(shape({width, hidden_size}), options.init, random);
  ffn.up = normal_parameter(shape({width, hidden_size}), options.init, random);
  ffn.down = normal_parameter(shape({hidden_size, width}), options.init, random);
  if (!options.biases) return ffn;
  if (gated) ffn.gate_bias = constant_parameter(shape({width}), 0);
  ffn.up_bias = constant_parameter(shape({width}), 0);
  ffn.down_bias = constant_parameter(shape({hidden_size}), 0);
  return ffn;
}

void collect_ffn(const FfnTensors& ffn, ParameterList& parameters, const std::string& prefix) {
  const auto add = [&](const char* name, const Tensor& tensor, bool weight_decay) {
    if (tensor.defined())
      parameters.push_back({.name = prefix + name, .tensor = tensor, .weight_decay = weight_decay});
  };
  add(".gate_proj.weight", ffn.gate, true);
  add(".up_proj.weight", ffn.up, true);
  add(".down_proj.weight", ffn.down, true);
  add(".gate_proj.bias", ffn.gate_bias, false);
  add(".up_proj.bias", ffn.up_bias, false);
  add(".down_proj.bias", ffn.down_bias, false);
}

double ffn_flops(const FfnTensors& ffn) {
  double flops = 0;
  for (const Tensor& w : {ffn.gate, ffn.up, ffn.down})
    flops += w.defined() ? 2.0 * static_cast<double>(input_width(w) * w.size(-2)) : 0.0;
  return flops;
}

int64_t ffn_parameters(const FfnTensors& ffn) {
  int64_t count = 0;
  for (const Tensor& w : {ffn.gate, ffn.up, ffn.down}) count += w.defined() ? input_width(w) * w.size(-2) : 0;
  for (const Tensor& b : {ffn.gate_bias, ffn.up_bias, ffn.down_bias}) count += b.defined() ? b.size(-1) : 0;
  return count;
}

FeedForwardExperts::FeedForwardExperts(const ExpertSizes& sizes, const FeedForwardOptions& options,
                                       RandomStream& random)
    : ffn_(make_ffn_parameters(sizes.num_experts, sizes.hidden_size, options, random)),
      activation_(options.activation),
      recompute_(options.recompute),
      dropout_(options.dropout),
      layer_(sizes.layer) {}

Tensor FeedForwardExperts::forward(const Tensor& hidden, const Assignment& assignment,
                                   const ExpertContext& context) {
  require(assignment.num_experts() == num_experts(),
          "layer {}: an assignment for {} experts reached a bank of {} experts", layer_,
          assignment.num_experts(), num_experts());
  if (!context.training || dropout_ == 0)
    return expert_ffn(hidden, assignment, ffn_, activation_, recompute_, context.observer);
  const auto thinned = [&](const Tensor& x) { return dropout(x, dropout_, context); };
  return thinned(
      expert_ffn_by_tensor_operations(hidden, assignment, ffn_, activation_, thinned, context.observer));
}

void FeedForwardExperts::collect(ParameterList& parameters, const std::string& prefix) const {
  collect_ffn(ffn_, parameters, prefix + ".experts.{}");
}

}  // namespace gatewright

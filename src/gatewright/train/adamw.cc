#include "gatewright/train/adamw.h"

#include <cmath>

#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/adamw.h"

namespace gatewright {
namespace {

constexpr int64_t kBlock = 16384;  // floats handed to a thread at a time

bool has_cpu_kernel(const Tensor& parameter, const Tensor& gradient) {
  return parameter.is_cpu() && parameter.scalar_type() == at::kFloat && parameter.is_contiguous() &&
         gradient.scalar_type() == at::kFloat && gradient.is_contiguous() && !gradient.is_sparse();
}

void update_by_tensor_operations(const Tensor& p, const Tensor& gradient, const Tensor& first,
                                 const Tensor& second, const kernels::AdamWStep& s) {
  const Tensor g = gradient.to(at::kFloat) * s.gradient_scale;
  first.mul_(s.beta1).add_(g, 1.0 - s.beta1);
  second.mul_(s.beta2).addcmul_(g, g, 1.0 - s.beta2);
  const Tensor root = (second * s.second_scale).sqrt_().add_(s.epsilon);
  p.mul_(1.0 - s.decay).sub_((first / root * s.step_size).to(p.scalar_type()));
}

void update_parameter(const Tensor& parameter, const Tensor& gradient, const Tensor& first,
                      const Tensor& second, const kernels::AdamWStep& step) {
  if (!has_cpu_kernel(parameter, gradient))
    return update_by_tensor_operations(parameter, gradient, first, second, step);
  float *p = parameter.data_ptr<float>(), *m = first.data_ptr<float>(), *v = second.data_ptr<float>();
  const float* g = gradient.data_ptr<float>();
  parallel_for(0, parameter.numel(), kBlock, [&](int64_t begin, int64_t end) {
    kernels::adamw_row(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

}  // namespace

AdamW::AdamW(const ParameterList& list, const AdamWOptions& options) : Optimizer(list), options_(options) {
  for (const NamedTensor& p : parameters()) {
    const auto zeros = p.tensor.options().dtype(at::kFloat).requires_grad(false);
    moments_.push_back({at::zeros(p.tensor.sizes(), zeros), at::zeros(p.tensor.sizes(), zeros)});
  }
}

void AdamW::update(size_t index, const Tensor& gradient, double learning_rate, double gradient_scale) {
  const NamedTensor& parameter = parameters()[index];
  const auto t = static_cast<double>(steps());
  const double decay = parameter.weight_decay ? learning_rate * options_.weight_decay : 0;
  update_parameter(parameter.tensor, gradient, moments_[index].first, moments_[index].second,
                   {.gradient_scale = static_cast<float>(gradient_scale),
                    .beta1 = static_cast<float>(options_.beta1),
                    .beta2 = static_cast<float>(options_.beta2),
                    .step_size = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, t))),
                    .second_scale = static_cast<float>(1 / (1 - std::pow(options_.beta2, t))),
                    .epsilon = static_cast<float>(options_.epsilon),
                    .decay = static_cast<float>(decay)});
}

ParameterList AdamW::state() const {
  ParameterList state;
  for (size_t i = 0; i < moments_.size(); ++i) {
    const std::string& name = parameters()[i].name;
    state.push_back({name + ".first_moment", moments_[i].first, false, false});
    state.push_back({name + ".second_moment", moments_[i].second, false, false});
  }
  return state;
}

}  // namespace gatewright

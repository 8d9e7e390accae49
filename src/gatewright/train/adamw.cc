#include "gatewright/train/adamw.h"

#include <cmath>
#include <map>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/adamw.h"

namespace gatewright {
namespace {

constexpr int64_t kBlock = 16384;  // floats handed to a thread, and summed, at a time

bool has_cpu_kernel(const Tensor& parameter, const Tensor& gradient) {
  return parameter.is_cpu() && parameter.scalar_type() == at::kFloat && parameter.is_contiguous() &&
         gradient.scalar_type() == at::kFloat && gradient.is_contiguous() && !gradient.is_sparse();
}

double sum_of_squares(const Tensor& gradient) {
  if (!has_cpu_kernel(gradient, gradient)) return gradient.to(at::kDouble).square().sum().item<double>();
  const float* values = gradient.data_ptr<float>();
  const int64_t count = gradient.numel(), blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  parallel_for(0, blocks, 4, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      double sum = 0;
      const int64_t end = std::min(count, (b + 1) * kBlock);
#pragma omp simd reduction(+ : sum)
      for (int64_t i = b * kBlock; i < end; ++i) sum += static_cast<double>(values[i]) * values[i];
      sums[static_cast<size_t>(b)] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void update_by_tensor_operations(Tensor& p, const Tensor& gradient, Tensor& first, Tensor& second,
                                 const kernels::AdamWStep& s) {
  const Tensor g = gradient.to(at::kFloat) * s.gradient_scale;
  first.mul_(s.beta1).add_(g, 1.0 - s.beta1);
  second.mul_(s.beta2).addcmul_(g, g, 1.0 - s.beta2);
  const Tensor root = (second * s.second_scale).sqrt_().add_(s.epsilon);
  p.mul_(1.0 - s.decay).sub_((first / root * s.step_size).to(p.scalar_type()));
}

void update(Tensor& parameter, const Tensor& gradient, Tensor& first, Tensor& second,
            const kernels::AdamWStep& step) {
  if (!has_cpu_kernel(parameter, gradient))
    return update_by_tensor_operations(parameter, gradient, first, second, step);
  float *p = parameter.data_ptr<float>(), *m = first.data_ptr<float>(), *v = second.data_ptr<float>();
  const float* g = gradient.data_ptr<float>();
  parallel_for(0, parameter.numel(), kBlock, [&](int64_t begin, int64_t end) {
    kernels::adamw_row(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

}  // namespace

double gradient_norm(const ParameterList& parameters) {
  double sum = 0;
  for (const NamedTensor& p : parameters) {
    if (p.trainable && p.tensor.grad().defined()) sum += sum_of_squares(p.tensor.grad());
  }
  return std::sqrt(sum);
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 && !(norm <= max_norm) ? max_norm / norm : 1.0;
}

AdamW::AdamW(const ParameterList& parameters, const AdamWOptions& options) : options_(options) {
  for (const NamedTensor& p : parameters) {
    if (!p.trainable) continue;
    const auto moments = p.tensor.options().dtype(at::kFloat).requires_grad(false);
    slots_.push_back({p, at::zeros(p.tensor.sizes(), moments), at::zeros(p.tensor.sizes(), moments)});
  }
}

void AdamW::step(double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_;
  const auto t = static_cast<double>(steps_);
  kernels::AdamWStep step = {
      .gradient_scale = static_cast<float>(gradient_scale),
      .beta1 = static_cast<float>(options_.beta1),
      .beta2 = static_cast<float>(options_.beta2),
      .step_size = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, t))),
      .second_scale = static_cast<float>(1 / (1 - std::pow(options_.beta2, t))),
      .epsilon = static_cast<float>(options_.epsilon),
      .decay = 0};
  for (Slot& slot : slots_) {
    Tensor& parameter = slot.parameter.tensor;
    if (!parameter.grad().defined()) continue;
    step.decay =
        slot.parameter.weight_decay ? static_cast<float>(learning_rate * options_.weight_decay) : 0.0f;
    update(parameter, parameter.grad(), slot.first, slot.second, step);
  }
}

void AdamW::zero_grad() {
  for (Slot& slot : slots_) slot.parameter.tensor.mutable_grad() = Tensor();
}

ParameterList AdamW::state() const {
  ParameterList state;
  for (const Slot& slot : slots_) {
    state.push_back({slot.parameter.name + ".first_moment", slot.first, false, false});
    state.push_back({slot.parameter.name + ".second_moment", slot.second, false, false});
  }
  return state;
}

void AdamW::load_state(const ParameterList& state, int64_t steps) {
  std::map<std::string, Tensor> given;
  for (const NamedTensor& entry : state) given[entry.name] = entry.tensor;
  const ParameterList mine = this->state();
  for (const NamedTensor& entry : mine) {
    const auto found = given.find(entry.name);
    require(found != given.end(), "[optimiser state] the tensor {} is missing", entry.name);
    require(found->second.sizes() == entry.tensor.sizes(),
            "[optimiser state] the tensor {} has {} values, its parameter {}", entry.name,
            found->second.numel(), entry.tensor.numel());
  }
  const at::NoGradGuard no_grad;
  for (const NamedTensor& entry : mine) entry.tensor.copy_(given.at(entry.name));
  steps_ = steps;
}

}  // namespace gatewright

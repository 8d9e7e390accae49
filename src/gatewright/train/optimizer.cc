#include "gatewright/train/optimizer.h"

#include <cmath>
#include <map>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"

namespace gatewright {
namespace {

constexpr int64_t kBlock = 16384;  // floats summed at a time

double sum_of_squares(const Tensor& gradient) {
  const bool plain = gradient.is_cpu() && gradient.scalar_type() == at::kFloat && gradient.is_contiguous() &&
                     !gradient.is_sparse();
  if (!plain) return gradient.to(at::kDouble).square().sum().item<double>();
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

Optimizer::Optimizer(const ParameterList& parameters) {
  for (const NamedTensor& p : parameters) {
    if (p.trainable) parameters_.push_back(p);
  }
}

void Optimizer::step(double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor gradient = parameters_[i].tensor.grad();
    if (gradient.defined()) update(i, gradient, learning_rate, gradient_scale);
  }
}

void Optimizer::zero_grad() {
  for (NamedTensor& p : parameters_) p.tensor.mutable_grad() = Tensor();
}

void Optimizer::load_state(const ParameterList& state, int64_t steps) {
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

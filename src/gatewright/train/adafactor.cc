#include "gatewright/train/adafactor.h"

#include <cmath>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

/// Of each matrix of a stack, or of a vector: [..., n, m] -> [..., 1, 1], [n] -> [1].
Tensor root_mean_square(const Tensor& x) {
  const std::vector<int64_t> axes = x.dim() >= 2 ? std::vector<int64_t>{-2, -1} : std::vector<int64_t>{0};
  return x.square().mean(axes, /*keepdim=*/true).sqrt_();
}

}  // namespace

Adafactor::Adafactor(const ParameterList& list, const AdafactorOptions& options)
    : Optimizer(list), options_(options) {
  for (const NamedTensor& p : parameters()) {
    const auto zeros = p.tensor.options().dtype(at::kFloat).requires_grad(false);
    const at::IntArrayRef shape = p.tensor.sizes();
    require(!shape.empty(), "[adafactor] the parameter {} has no axis", p.name);
    if (shape.size() < 2) {
      moments_.push_back({.rows = {}, .columns = {}, .whole = at::zeros(shape, zeros)});
      continue;
    }
    std::vector<int64_t> rows = shape.vec(), columns = shape.vec();
    rows.pop_back();
    columns.erase(columns.end() - 2);
    moments_.push_back({.rows = at::zeros(rows, zeros), .columns = at::zeros(columns, zeros), .whole = {}});
  }
}

void Adafactor::update(size_t index, const Tensor& gradient, double learning_rate, double gradient_scale) {
  const NamedTensor& parameter = parameters()[index];
  const Moments& moments = moments_[index];
  const double keep = 1 - std::pow(static_cast<double>(steps()), -options_.decay_rate);
  const Tensor g = gradient.to(at::kFloat) * gradient_scale;
  const Tensor square = g.square().add_(options_.epsilon1);
  Tensor step;
  if (moments.whole.defined()) {
    moments.whole.mul_(keep).add_(square, 1 - keep);
    step = g * moments.whole.rsqrt();
  } else {
    moments.rows.mul_(keep).add_(square.mean(-1), 1 - keep);
    moments.columns.mul_(keep).add_(square.mean(-2), 1 - keep);
    const Tensor of_rows = (moments.rows / moments.rows.mean(-1, /*keepdim=*/true)).rsqrt_();
    step = g * of_rows.unsqueeze(-1) * moments.columns.rsqrt().unsqueeze(-2);
  }
  if (options_.clip_threshold > 0)
    step.div_((root_mean_square(step) / options_.clip_threshold).clamp_min_(1));
  const Tensor& p = parameter.tensor;
  if (options_.scale_parameter)
    step.mul_(root_mean_square(p.detach().to(at::kFloat)).clamp_min_(options_.epsilon2));
  if (parameter.weight_decay && options_.weight_decay > 0) p.mul_(1 - learning_rate * options_.weight_decay);
  p.sub_((step * learning_rate).to(p.scalar_type()));
}

ParameterList Adafactor::state() const {
  ParameterList state;
  for (size_t i = 0; i < moments_.size(); ++i) {
    const std::string& name = parameters()[i].name;
    const auto add = [&](const char* suffix, const Tensor& tensor) {
      if (tensor.defined()) state.push_back({name + suffix, tensor, false, false});
    };
    add(".row_moment", moments_[i].rows);
    add(".column_moment", moments_[i].columns);
    add(".second_moment", moments_[i].whole);
  }
  return state;
}

}  // namespace gatewright
